create table if not exists `backup_repositories` (`id` varchar(64) not null primary key, `name` varchar(255) not null, `repository_type` enum('local', 'nfs', 'cifs', 'smb', 's3', 'azure') not null, `enabled` boolean default 1 not null check (enabled in (0, 1)), `config` longtext not null check (json_valid(config)), `is_immutable` boolean default 0 not null check (is_immutable in (0, 1)), `immutable_config` longtext check (json_valid(immutable_config)), `min_retention_days` int default 0 not null, `total_size_bytes` bigint default 0 not null check (total_size_bytes >= 0), `used_size_bytes` bigint default 0 not null check (used_size_bytes >= 0), `available_size_bytes` bigint default 0 not null check (available_size_bytes >= 0), `last_check_at` datetime(6), `health` enum('healthy', 'warning', 'offline', 'unknown') default 'unknown' not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `unique_name` unique (`name`)) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_type` on `backup_repositories` (`repository_type`);

create index if not exists `idx_enabled` on `backup_repositories` (`enabled`);

create index if not exists `idx_immutable` on `backup_repositories` (`is_immutable`);

create table if not exists `backup_policies` (`id` varchar(64) not null primary key, `name` varchar(255) not null, `enabled` boolean default 1 not null check (enabled in (0, 1)), `primary_repository_id` varchar(64) not null, `retention_days` int default 30 not null, `retention` longtext check (json_valid(retention)), `schedule` varchar(255), `full_every` varchar(64), `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `unique_policy_name` unique (`name`), constraint `fk_backup_policies_primary_repository_id` foreign key (`primary_repository_id`) references `backup_repositories` (`id`) on delete restrict) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_policies_repository` on `backup_policies` (`primary_repository_id`);

create table if not exists `backup_copy_rules` (`id` varchar(64) not null primary key, `policy_id` varchar(64) not null, `destination_repository_id` varchar(64) not null, `copy_mode` enum('immediate', 'scheduled', 'manual') default 'immediate' not null, `priority` int default 0 not null, `enabled` boolean default 1 not null check (enabled in (0, 1)), `verify_after_copy` boolean default 1 not null check (verify_after_copy in (0, 1)), `schedule` varchar(255), `retention` longtext check (json_valid(retention)), `created_at` datetime(6) default (utc_timestamp(6)) not null, constraint `fk_backup_copy_rules_policy_id` foreign key (`policy_id`) references `backup_policies` (`id`) on delete cascade, constraint `fk_backup_copy_rules_destination_repository_id` foreign key (`destination_repository_id`) references `backup_repositories` (`id`) on delete restrict) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_copy_rules_policy` on `backup_copy_rules` (`policy_id`);

create index if not exists `idx_copy_rules_priority` on `backup_copy_rules` (`priority`);

create index if not exists `idx_copy_rules_destination` on `backup_copy_rules` (`destination_repository_id`);

create table if not exists `vm_replication_contexts` (`context_id` varchar(191) not null primary key, `external_id` varchar(255), `vm_name` varchar(255) not null, `platform` enum('vmware', 'kvm', 'hyperv', 'cloudstack', 'aws', 'other') default 'other' not null, `metadata` longtext check (json_valid(metadata)), `policy_id` varchar(64), `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `fk_vm_replication_contexts_policy_id` foreign key (`policy_id`) references `backup_policies` (`id`) on delete set null) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_contexts_vm_name` on `vm_replication_contexts` (`vm_name`);

create index if not exists `idx_contexts_policy` on `vm_replication_contexts` (`policy_id`);

create table if not exists `settings` (`name` varchar(191) not null primary key, `value` longtext not null check (json_valid(value)), `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6)) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create table if not exists `backup_jobs` (`id` varchar(64) not null primary key, `vm_context_id` varchar(191) not null, `vm_name` varchar(255) not null, `disk_id` int not null, `repository_id` varchar(64) not null, `policy_id` varchar(64), `backup_type` enum('full', 'incremental', 'differential') not null, `status` enum('pending', 'running', 'completed', 'failed', 'cancelled') default 'pending' not null, `repository_path` varchar(512) not null, `parent_backup_id` varchar(64), `change_id` varchar(191), `bytes_transferred` bigint default 0 not null check (bytes_transferred >= 0), `total_bytes` bigint default 0 not null check (total_bytes >= 0), `size_bytes` bigint default 0 not null check (size_bytes >= 0), `compression_enabled` boolean default 1 not null check (compression_enabled in (0, 1)), `error_message` text, `restore_point_id` varchar(64), `chain_id` varchar(64), `digest_root` varchar(128), `content_root` varchar(128), `protected_until` datetime(6), `verified_at` datetime(6), `verification_status` enum('never', 'passed', 'failed') default 'never' not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, `started_at` datetime(6), `completed_at` datetime(6), constraint `fk_backup_jobs_vm_context_id` foreign key (`vm_context_id`) references `vm_replication_contexts` (`context_id`) on delete restrict, constraint `fk_backup_jobs_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete restrict, constraint `fk_backup_jobs_policy_id` foreign key (`policy_id`) references `backup_policies` (`id`) on delete set null, constraint `fk_backup_jobs_parent_backup_id` foreign key (`parent_backup_id`) references `backup_jobs` (`id`) on delete restrict) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_backup_jobs_vm_context` on `backup_jobs` (`vm_context_id`, `created_at`, `id`);

create index if not exists `idx_backup_jobs_repository` on `backup_jobs` (`repository_id`, `created_at`, `id`);

create index if not exists `idx_backup_jobs_policy` on `backup_jobs` (`policy_id`);

create index if not exists `idx_backup_jobs_status` on `backup_jobs` (`status`, `created_at`, `id`);

create index if not exists `idx_backup_jobs_created` on `backup_jobs` (`created_at`, `id`);

create index if not exists `idx_backup_jobs_parent` on `backup_jobs` (`parent_backup_id`);

create index if not exists `idx_backup_jobs_chain` on `backup_jobs` (`chain_id`, `created_at`, `id`);

create table if not exists `backup_chains` (`id` varchar(64) not null primary key, `vm_context_id` varchar(191) not null, `disk_id` int not null, `repository_id` varchar(64) not null, `full_backup_id` varchar(64) not null, `latest_backup_id` varchar(64) not null, `total_backups` int default 0 not null, `total_size_bytes` bigint default 0 not null check (total_size_bytes >= 0), `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `unique_chain` unique (`vm_context_id`, `disk_id`, `repository_id`, `full_backup_id`), constraint `fk_backup_chains_vm_context_id` foreign key (`vm_context_id`) references `vm_replication_contexts` (`context_id`) on delete restrict, constraint `fk_backup_chains_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete restrict, constraint `fk_backup_chains_full_backup_id` foreign key (`full_backup_id`) references `backup_jobs` (`id`) on delete restrict, constraint `fk_backup_chains_latest_backup_id` foreign key (`latest_backup_id`) references `backup_jobs` (`id`) on delete restrict) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_chains_repository` on `backup_chains` (`repository_id`);

create index if not exists `idx_chains_full` on `backup_chains` (`full_backup_id`);

create index if not exists `idx_chains_latest` on `backup_chains` (`latest_backup_id`);

create table if not exists `backup_copies` (`id` varchar(64) not null primary key, `source_backup_id` varchar(64) not null, `repository_id` varchar(64) not null, `copy_rule_id` varchar(64), `status` enum('pending', 'copying', 'verifying', 'completed', 'failed', 'cancelled') default 'pending' not null, `file_path` varchar(512) not null, `size_bytes` bigint default 0 not null check (size_bytes >= 0), `bytes_copied` bigint default 0 not null check (bytes_copied >= 0), `copy_started_at` datetime(6), `copy_completed_at` datetime(6), `verified_at` datetime(6), `verification_status` enum('pending', 'passed', 'failed') default 'pending' not null, `error_message` text, `attempts` int default 0 not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, constraint `unique_backup_repo` unique (`source_backup_id`, `repository_id`), constraint `fk_backup_copies_source_backup_id` foreign key (`source_backup_id`) references `backup_jobs` (`id`) on delete cascade, constraint `fk_backup_copies_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete restrict, constraint `fk_backup_copies_copy_rule_id` foreign key (`copy_rule_id`) references `backup_copy_rules` (`id`) on delete set null) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_copies_repository` on `backup_copies` (`repository_id`);

create index if not exists `idx_copies_rule` on `backup_copies` (`copy_rule_id`);

create index if not exists `idx_copies_status` on `backup_copies` (`status`);

create table if not exists `holds` (`id` varchar(64) not null primary key, `backup_id` varchar(64) not null, `reason` text not null, `created_by` varchar(255) not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, `lifted_by` varchar(255), `lifted_at` datetime(6), constraint `fk_holds_backup_id` foreign key (`backup_id`) references `backup_jobs` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_holds_backup` on `holds` (`backup_id`);

create table if not exists `job_tracking` (`id` varchar(64) not null primary key, `parent_job_id` varchar(64), `job_type` varchar(64) not null, `operation` varchar(191) not null, `status` enum('pending', 'running', 'completed', 'failed', 'cancelled') default 'pending' not null, `owner` longtext check (json_valid(owner)), `context_id` varchar(191), `external_job_id` varchar(191), `metadata` longtext check (json_valid(metadata)), `percent_complete` int default 0 not null, `error_message` text, `created_at` datetime(6) default (utc_timestamp(6)) not null, `started_at` datetime(6), `completed_at` datetime(6), `canceled_at` datetime(6), `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `fk_job_tracking_parent_job_id` foreign key (`parent_job_id`) references `job_tracking` (`id`) on delete set null) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_jobs_status` on `job_tracking` (`status`, `created_at`);

create index if not exists `idx_jobs_created` on `job_tracking` (`created_at`);

create index if not exists `idx_jobs_parent` on `job_tracking` (`parent_job_id`);

create index if not exists `idx_jobs_context` on `job_tracking` (`context_id`);

create index if not exists `idx_jobs_external` on `job_tracking` (`external_job_id`);

create table if not exists `job_steps` (`id` varchar(64) not null primary key, `job_id` varchar(64) not null, `seq` int not null, `name` varchar(191) not null, `status` enum('running', 'completed', 'failed', 'skipped') default 'running' not null, `started_at` datetime(6) not null, `completed_at` datetime(6), `error_message` text, `metadata` longtext check (json_valid(metadata)), constraint `unique_job_seq` unique (`job_id`, `seq`), constraint `fk_job_steps_job_id` foreign key (`job_id`) references `job_tracking` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create table if not exists `log_events` (`id` bigint not null primary key auto_increment, `job_id` varchar(64) not null, `step_id` varchar(64), `level` enum('debug', 'info', 'warn', 'error') not null, `message` text not null, `attrs` longtext check (json_valid(attrs)), `ts` datetime(6) not null, constraint `fk_log_events_job_id` foreign key (`job_id`) references `job_tracking` (`id`) on delete cascade, constraint `fk_log_events_step_id` foreign key (`step_id`) references `job_steps` (`id`) on delete set null) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_log_events_job` on `log_events` (`job_id`, `ts`);

create index if not exists `idx_log_events_step` on `log_events` (`step_id`);

create table if not exists `leases` (`id` varchar(64) not null primary key, `repository_id` varchar(64) not null, `vm_context_id` varchar(191) not null, `disk_id` int not null, `job_id` varchar(64) not null, `owner` longtext not null check (json_valid(owner)), `acquired_at` datetime(6) not null, `expires_at` datetime(6) not null, constraint `unique_lease` unique (`repository_id`, `vm_context_id`, `disk_id`), constraint `fk_leases_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete cascade, constraint `fk_leases_vm_context_id` foreign key (`vm_context_id`) references `vm_replication_contexts` (`context_id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_leases_vm_context` on `leases` (`vm_context_id`);

create table if not exists `readers` (`id` varchar(64) not null primary key, `backup_id` varchar(64) not null, `repository_id` varchar(64) not null, `job_id` varchar(64), `owner` longtext not null check (json_valid(owner)), `acquired_at` datetime(6) not null, `expires_at` datetime(6) not null, constraint `fk_readers_backup_id` foreign key (`backup_id`) references `backup_jobs` (`id`) on delete cascade, constraint `fk_readers_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_readers_backup` on `readers` (`backup_id`, `repository_id`);

create index if not exists `idx_readers_repository` on `readers` (`repository_id`);

create table if not exists `space_reservations` (`id` varchar(64) not null primary key, `repository_id` varchar(64) not null, `job_id` varchar(64) not null, `bytes` bigint not null check (bytes >= 0), `owner` longtext not null check (json_valid(owner)), `created_at` datetime(6) default (utc_timestamp(6)) not null, `expires_at` datetime(6) not null, constraint `fk_space_reservations_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_reservations_repository` on `space_reservations` (`repository_id`);

create table if not exists `secrets` (`id` varchar(64) not null primary key, `repository_id` varchar(64) not null, `name` varchar(64) not null, `key_id` varchar(64) not null, `sealed` text not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `unique_secret` unique (`repository_id`, `name`), constraint `fk_secrets_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create table if not exists `job_heartbeats` (`job_id` varchar(64) not null primary key, `beat_at` datetime(6) not null, `cancel_requested_at` datetime(6), `cancel_reason` text, constraint `fk_job_heartbeats_job_id` foreign key (`job_id`) references `job_tracking` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create table if not exists `users` (`id` varchar(64) not null primary key, `name` varchar(255) not null, `password_hash` varchar(255), `role` enum('viewer', 'operator', 'admin') default 'viewer' not null, `enabled` boolean default 1 not null check (enabled in (0, 1)), `last_login_at` datetime(6), `created_at` datetime(6) default (utc_timestamp(6)) not null, `updated_at` datetime(6) default (utc_timestamp(6)) not null on update current_timestamp(6), constraint `unique_user_name` unique (`name`)) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create table if not exists `sessions` (`id` varchar(64) not null primary key, `user_id` varchar(64) not null, `token_hash` varchar(128) not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, `last_used_at` datetime(6) not null, `expires_at` datetime(6) not null, constraint `unique_session_token` unique (`token_hash`), constraint `fk_sessions_user_id` foreign key (`user_id`) references `users` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_sessions_user` on `sessions` (`user_id`);

create index if not exists `idx_sessions_expires` on `sessions` (`expires_at`);

create table if not exists `api_tokens` (`id` varchar(64) not null primary key, `user_id` varchar(64) not null, `name` varchar(255) not null, `token_hash` varchar(128) not null, `role` enum('viewer', 'operator', 'admin') default 'viewer' not null, `created_at` datetime(6) default (utc_timestamp(6)) not null, `last_used_at` datetime(6), `expires_at` datetime(6), `revoked_at` datetime(6), constraint `unique_api_token` unique (`token_hash`), constraint `fk_api_tokens_user_id` foreign key (`user_id`) references `users` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_api_tokens_user` on `api_tokens` (`user_id`);

create table if not exists `audit_log` (`id` bigint not null primary key auto_increment, `at` datetime(6) not null, `actor` varchar(255) not null, `action` varchar(64) not null, `target` varchar(255), `details` longtext check (json_valid(details)), `previous_hash` varchar(128) not null, `hash` varchar(128) not null) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_audit_at` on `audit_log` (`at`);

create index if not exists `idx_audit_actor` on `audit_log` (`actor`, `at`);

create table if not exists `storage_samples` (`id` bigint not null primary key auto_increment, `repository_id` varchar(64) not null, `sampled_at` datetime(6) not null, `total_bytes` bigint not null check (total_bytes >= 0), `used_bytes` bigint not null check (used_bytes >= 0), `available_bytes` bigint not null check (available_bytes >= 0), constraint `fk_storage_samples_repository_id` foreign key (`repository_id`) references `backup_repositories` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;

create index if not exists `idx_samples_repository` on `storage_samples` (`repository_id`, `sampled_at`);

create table if not exists `push_completions` (`job_id` varchar(64) not null primary key, `change_id` varchar(191), `requested_at` datetime(6) not null, constraint `fk_push_completions_job_id` foreign key (`job_id`) references `job_tracking` (`id`) on delete cascade) engine = InnoDB default character set utf8mb4 collate utf8mb4_nopad_bin;
