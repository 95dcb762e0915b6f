CREATE TABLE `api_tokens` (
  `id` varchar(64) NOT NULL,
  `user_id` varchar(64) NOT NULL,
  `name` varchar(255) NOT NULL,
  `token_hash` varchar(128) NOT NULL,
  `role` enum('viewer','operator','admin') NOT NULL DEFAULT 'viewer',
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `last_used_at` datetime(6) DEFAULT NULL,
  `expires_at` datetime(6) DEFAULT NULL,
  `revoked_at` datetime(6) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_api_token` (`token_hash`),
  KEY `idx_api_tokens_user` (`user_id`),
  CONSTRAINT `fk_api_tokens_user_id` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `audit_log` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `at` datetime(6) NOT NULL,
  `actor` varchar(255) NOT NULL,
  `action` varchar(64) NOT NULL,
  `target` varchar(255) DEFAULT NULL,
  `details` longtext DEFAULT NULL CHECK (json_valid(`details`)),
  `previous_hash` varchar(128) NOT NULL,
  `hash` varchar(128) NOT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_audit_at` (`at`),
  KEY `idx_audit_actor` (`actor`,`at`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `backup_chains` (
  `id` varchar(64) NOT NULL,
  `vm_context_id` varchar(191) NOT NULL,
  `disk_id` int(11) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `full_backup_id` varchar(64) NOT NULL,
  `latest_backup_id` varchar(64) NOT NULL,
  `total_backups` int(11) NOT NULL DEFAULT 0,
  `total_size_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`total_size_bytes` >= 0),
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_chain` (`vm_context_id`,`disk_id`,`repository_id`,`full_backup_id`),
  KEY `idx_chains_repository` (`repository_id`),
  KEY `idx_chains_full` (`full_backup_id`),
  KEY `idx_chains_latest` (`latest_backup_id`),
  CONSTRAINT `fk_backup_chains_full_backup_id` FOREIGN KEY (`full_backup_id`) REFERENCES `backup_jobs` (`id`),
  CONSTRAINT `fk_backup_chains_latest_backup_id` FOREIGN KEY (`latest_backup_id`) REFERENCES `backup_jobs` (`id`),
  CONSTRAINT `fk_backup_chains_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`),
  CONSTRAINT `fk_backup_chains_vm_context_id` FOREIGN KEY (`vm_context_id`) REFERENCES `vm_replication_contexts` (`context_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `backup_copies` (
  `id` varchar(64) NOT NULL,
  `source_backup_id` varchar(64) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `copy_rule_id` varchar(64) DEFAULT NULL,
  `status` enum('pending','copying','verifying','completed','failed','cancelled') NOT NULL DEFAULT 'pending',
  `file_path` varchar(512) NOT NULL,
  `size_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`size_bytes` >= 0),
  `bytes_copied` bigint(20) NOT NULL DEFAULT 0 CHECK (`bytes_copied` >= 0),
  `copy_started_at` datetime(6) DEFAULT NULL,
  `copy_completed_at` datetime(6) DEFAULT NULL,
  `verified_at` datetime(6) DEFAULT NULL,
  `verification_status` enum('pending','passed','failed') NOT NULL DEFAULT 'pending',
  `error_message` text DEFAULT NULL,
  `attempts` int(11) NOT NULL DEFAULT 0,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_backup_repo` (`source_backup_id`,`repository_id`),
  KEY `idx_copies_repository` (`repository_id`),
  KEY `idx_copies_rule` (`copy_rule_id`),
  KEY `idx_copies_status` (`status`),
  CONSTRAINT `fk_backup_copies_copy_rule_id` FOREIGN KEY (`copy_rule_id`) REFERENCES `backup_copy_rules` (`id`) ON DELETE SET NULL,
  CONSTRAINT `fk_backup_copies_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`),
  CONSTRAINT `fk_backup_copies_source_backup_id` FOREIGN KEY (`source_backup_id`) REFERENCES `backup_jobs` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `backup_copy_rules` (
  `id` varchar(64) NOT NULL,
  `policy_id` varchar(64) NOT NULL,
  `destination_repository_id` varchar(64) NOT NULL,
  `copy_mode` enum('immediate','scheduled','manual') NOT NULL DEFAULT 'immediate',
  `priority` int(11) NOT NULL DEFAULT 0,
  `enabled` tinyint(1) NOT NULL DEFAULT 1 CHECK (`enabled` in (0,1)),
  `verify_after_copy` tinyint(1) NOT NULL DEFAULT 1 CHECK (`verify_after_copy` in (0,1)),
  `schedule` varchar(255) DEFAULT NULL,
  `retention` longtext DEFAULT NULL CHECK (json_valid(`retention`)),
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  PRIMARY KEY (`id`),
  KEY `idx_copy_rules_policy` (`policy_id`),
  KEY `idx_copy_rules_priority` (`priority`),
  KEY `idx_copy_rules_destination` (`destination_repository_id`),
  CONSTRAINT `fk_backup_copy_rules_destination_repository_id` FOREIGN KEY (`destination_repository_id`) REFERENCES `backup_repositories` (`id`),
  CONSTRAINT `fk_backup_copy_rules_policy_id` FOREIGN KEY (`policy_id`) REFERENCES `backup_policies` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `backup_jobs` (
  `id` varchar(64) NOT NULL,
  `vm_context_id` varchar(191) NOT NULL,
  `vm_name` varchar(255) NOT NULL,
  `disk_id` int(11) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `policy_id` varchar(64) DEFAULT NULL,
  `backup_type` enum('full','incremental','differential') NOT NULL,
  `status` enum('pending','running','completed','failed','cancelled') NOT NULL DEFAULT 'pending',
  `repository_path` varchar(512) NOT NULL,
  `parent_backup_id` varchar(64) DEFAULT NULL,
  `change_id` varchar(191) DEFAULT NULL,
  `bytes_transferred` bigint(20) NOT NULL DEFAULT 0 CHECK (`bytes_transferred` >= 0),
  `total_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`total_bytes` >= 0),
  `size_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`size_bytes` >= 0),
  `compression_enabled` tinyint(1) NOT NULL DEFAULT 1 CHECK (`compression_enabled` in (0,1)),
  `error_message` text DEFAULT NULL,
  `restore_point_id` varchar(64) DEFAULT NULL,
  `chain_id` varchar(64) DEFAULT NULL,
  `digest_root` varchar(128) DEFAULT NULL,
  `content_root` varchar(128) DEFAULT NULL,
  `protected_until` datetime(6) DEFAULT NULL,
  `verified_at` datetime(6) DEFAULT NULL,
  `verification_status` enum('never','passed','failed') NOT NULL DEFAULT 'never',
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `started_at` datetime(6) DEFAULT NULL,
  `completed_at` datetime(6) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_backup_jobs_vm_context` (`vm_context_id`,`created_at`,`id`),
  KEY `idx_backup_jobs_repository` (`repository_id`,`created_at`,`id`),
  KEY `idx_backup_jobs_policy` (`policy_id`),
  KEY `idx_backup_jobs_status` (`status`,`created_at`,`id`),
  KEY `idx_backup_jobs_created` (`created_at`,`id`),
  KEY `idx_backup_jobs_parent` (`parent_backup_id`),
  KEY `idx_backup_jobs_chain` (`chain_id`,`created_at`,`id`),
  CONSTRAINT `fk_backup_jobs_parent_backup_id` FOREIGN KEY (`parent_backup_id`) REFERENCES `backup_jobs` (`id`),
  CONSTRAINT `fk_backup_jobs_policy_id` FOREIGN KEY (`policy_id`) REFERENCES `backup_policies` (`id`) ON DELETE SET NULL,
  CONSTRAINT `fk_backup_jobs_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`),
  CONSTRAINT `fk_backup_jobs_vm_context_id` FOREIGN KEY (`vm_context_id`) REFERENCES `vm_replication_contexts` (`context_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `backup_policies` (
  `id` varchar(64) NOT NULL,
  `name` varchar(255) NOT NULL,
  `enabled` tinyint(1) NOT NULL DEFAULT 1 CHECK (`enabled` in (0,1)),
  `primary_repository_id` varchar(64) NOT NULL,
  `retention_days` int(11) NOT NULL DEFAULT 30,
  `retention` longtext DEFAULT NULL CHECK (json_valid(`retention`)),
  `schedule` varchar(255) DEFAULT NULL,
  `full_every` varchar(64) DEFAULT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_policy_name` (`name`),
  KEY `idx_policies_repository` (`primary_repository_id`),
  CONSTRAINT `fk_backup_policies_primary_repository_id` FOREIGN KEY (`primary_repository_id`) REFERENCES `backup_repositories` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `backup_repositories` (
  `id` varchar(64) NOT NULL,
  `name` varchar(255) NOT NULL,
  `repository_type` enum('local','nfs','cifs','smb','s3','azure') NOT NULL,
  `enabled` tinyint(1) NOT NULL DEFAULT 1 CHECK (`enabled` in (0,1)),
  `config` longtext NOT NULL CHECK (json_valid(`config`)),
  `is_immutable` tinyint(1) NOT NULL DEFAULT 0 CHECK (`is_immutable` in (0,1)),
  `immutable_config` longtext DEFAULT NULL CHECK (json_valid(`immutable_config`)),
  `min_retention_days` int(11) NOT NULL DEFAULT 0,
  `total_size_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`total_size_bytes` >= 0),
  `used_size_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`used_size_bytes` >= 0),
  `available_size_bytes` bigint(20) NOT NULL DEFAULT 0 CHECK (`available_size_bytes` >= 0),
  `last_check_at` datetime(6) DEFAULT NULL,
  `health` enum('healthy','warning','offline','unknown') NOT NULL DEFAULT 'unknown',
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_name` (`name`),
  KEY `idx_type` (`repository_type`),
  KEY `idx_enabled` (`enabled`),
  KEY `idx_immutable` (`is_immutable`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `chainkeep_schema` (
  `id` int(11) NOT NULL,
  `version` int(11) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `holds` (
  `id` varchar(64) NOT NULL,
  `backup_id` varchar(64) NOT NULL,
  `reason` text NOT NULL,
  `created_by` varchar(255) NOT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `lifted_by` varchar(255) DEFAULT NULL,
  `lifted_at` datetime(6) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_holds_backup` (`backup_id`),
  CONSTRAINT `fk_holds_backup_id` FOREIGN KEY (`backup_id`) REFERENCES `backup_jobs` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `job_heartbeats` (
  `job_id` varchar(64) NOT NULL,
  `beat_at` datetime(6) NOT NULL,
  `cancel_requested_at` datetime(6) DEFAULT NULL,
  `cancel_reason` text DEFAULT NULL,
  PRIMARY KEY (`job_id`),
  CONSTRAINT `fk_job_heartbeats_job_id` FOREIGN KEY (`job_id`) REFERENCES `job_tracking` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `job_steps` (
  `id` varchar(64) NOT NULL,
  `job_id` varchar(64) NOT NULL,
  `seq` int(11) NOT NULL,
  `name` varchar(191) NOT NULL,
  `status` enum('running','completed','failed','skipped') NOT NULL DEFAULT 'running',
  `started_at` datetime(6) NOT NULL,
  `completed_at` datetime(6) DEFAULT NULL,
  `error_message` text DEFAULT NULL,
  `metadata` longtext DEFAULT NULL CHECK (json_valid(`metadata`)),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_job_seq` (`job_id`,`seq`),
  CONSTRAINT `fk_job_steps_job_id` FOREIGN KEY (`job_id`) REFERENCES `job_tracking` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `job_tracking` (
  `id` varchar(64) NOT NULL,
  `parent_job_id` varchar(64) DEFAULT NULL,
  `job_type` varchar(64) NOT NULL,
  `operation` varchar(191) NOT NULL,
  `status` enum('pending','running','completed','failed','cancelled') NOT NULL DEFAULT 'pending',
  `owner` longtext DEFAULT NULL CHECK (json_valid(`owner`)),
  `context_id` varchar(191) DEFAULT NULL,
  `external_job_id` varchar(191) DEFAULT NULL,
  `metadata` longtext DEFAULT NULL CHECK (json_valid(`metadata`)),
  `percent_complete` int(11) NOT NULL DEFAULT 0,
  `error_message` text DEFAULT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `started_at` datetime(6) DEFAULT NULL,
  `completed_at` datetime(6) DEFAULT NULL,
  `canceled_at` datetime(6) DEFAULT NULL,
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`id`),
  KEY `idx_jobs_status` (`status`,`created_at`),
  KEY `idx_jobs_created` (`created_at`),
  KEY `idx_jobs_parent` (`parent_job_id`),
  KEY `idx_jobs_context` (`context_id`),
  KEY `idx_jobs_external` (`external_job_id`),
  CONSTRAINT `fk_job_tracking_parent_job_id` FOREIGN KEY (`parent_job_id`) REFERENCES `job_tracking` (`id`) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `leases` (
  `id` varchar(64) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `vm_context_id` varchar(191) NOT NULL,
  `disk_id` int(11) NOT NULL,
  `job_id` varchar(64) NOT NULL,
  `owner` longtext NOT NULL CHECK (json_valid(`owner`)),
  `acquired_at` datetime(6) NOT NULL,
  `expires_at` datetime(6) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_lease` (`repository_id`,`vm_context_id`,`disk_id`),
  KEY `idx_leases_vm_context` (`vm_context_id`),
  CONSTRAINT `fk_leases_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`) ON DELETE CASCADE,
  CONSTRAINT `fk_leases_vm_context_id` FOREIGN KEY (`vm_context_id`) REFERENCES `vm_replication_contexts` (`context_id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `log_events` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `job_id` varchar(64) NOT NULL,
  `step_id` varchar(64) DEFAULT NULL,
  `level` enum('debug','info','warn','error') NOT NULL,
  `message` text NOT NULL,
  `attrs` longtext DEFAULT NULL CHECK (json_valid(`attrs`)),
  `ts` datetime(6) NOT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_log_events_job` (`job_id`,`ts`),
  KEY `idx_log_events_step` (`step_id`),
  CONSTRAINT `fk_log_events_job_id` FOREIGN KEY (`job_id`) REFERENCES `job_tracking` (`id`) ON DELETE CASCADE,
  CONSTRAINT `fk_log_events_step_id` FOREIGN KEY (`step_id`) REFERENCES `job_steps` (`id`) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `push_completions` (
  `job_id` varchar(64) NOT NULL,
  `change_id` varchar(191) DEFAULT NULL,
  `requested_at` datetime(6) NOT NULL,
  PRIMARY KEY (`job_id`),
  CONSTRAINT `fk_push_completions_job_id` FOREIGN KEY (`job_id`) REFERENCES `job_tracking` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `readers` (
  `id` varchar(64) NOT NULL,
  `backup_id` varchar(64) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `job_id` varchar(64) DEFAULT NULL,
  `owner` longtext NOT NULL CHECK (json_valid(`owner`)),
  `acquired_at` datetime(6) NOT NULL,
  `expires_at` datetime(6) NOT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_readers_backup` (`backup_id`,`repository_id`),
  KEY `idx_readers_repository` (`repository_id`),
  CONSTRAINT `fk_readers_backup_id` FOREIGN KEY (`backup_id`) REFERENCES `backup_jobs` (`id`) ON DELETE CASCADE,
  CONSTRAINT `fk_readers_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `secrets` (
  `id` varchar(64) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `name` varchar(64) NOT NULL,
  `key_id` varchar(64) NOT NULL,
  `sealed` text NOT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_secret` (`repository_id`,`name`),
  CONSTRAINT `fk_secrets_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `sessions` (
  `id` varchar(64) NOT NULL,
  `user_id` varchar(64) NOT NULL,
  `token_hash` varchar(128) NOT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `last_used_at` datetime(6) NOT NULL,
  `expires_at` datetime(6) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_session_token` (`token_hash`),
  KEY `idx_sessions_user` (`user_id`),
  KEY `idx_sessions_expires` (`expires_at`),
  CONSTRAINT `fk_sessions_user_id` FOREIGN KEY (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `settings` (
  `name` varchar(191) NOT NULL,
  `value` longtext NOT NULL CHECK (json_valid(`value`)),
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `space_reservations` (
  `id` varchar(64) NOT NULL,
  `repository_id` varchar(64) NOT NULL,
  `job_id` varchar(64) NOT NULL,
  `bytes` bigint(20) NOT NULL CHECK (`bytes` >= 0),
  `owner` longtext NOT NULL CHECK (json_valid(`owner`)),
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `expires_at` datetime(6) NOT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_reservations_repository` (`repository_id`),
  CONSTRAINT `fk_space_reservations_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `storage_samples` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `repository_id` varchar(64) NOT NULL,
  `sampled_at` datetime(6) NOT NULL,
  `total_bytes` bigint(20) NOT NULL CHECK (`total_bytes` >= 0),
  `used_bytes` bigint(20) NOT NULL CHECK (`used_bytes` >= 0),
  `available_bytes` bigint(20) NOT NULL CHECK (`available_bytes` >= 0),
  PRIMARY KEY (`id`),
  KEY `idx_samples_repository` (`repository_id`,`sampled_at`),
  CONSTRAINT `fk_storage_samples_repository_id` FOREIGN KEY (`repository_id`) REFERENCES `backup_repositories` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `users` (
  `id` varchar(64) NOT NULL,
  `name` varchar(255) NOT NULL,
  `password_hash` varchar(255) DEFAULT NULL,
  `role` enum('viewer','operator','admin') NOT NULL DEFAULT 'viewer',
  `enabled` tinyint(1) NOT NULL DEFAULT 1 CHECK (`enabled` in (0,1)),
  `last_login_at` datetime(6) DEFAULT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`id`),
  UNIQUE KEY `unique_user_name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE `vm_replication_contexts` (
  `context_id` varchar(191) NOT NULL,
  `external_id` varchar(255) DEFAULT NULL,
  `vm_name` varchar(255) NOT NULL,
  `platform` enum('vmware','kvm','hyperv','cloudstack','aws','other') NOT NULL DEFAULT 'other',
  `metadata` longtext DEFAULT NULL CHECK (json_valid(`metadata`)),
  `policy_id` varchar(64) DEFAULT NULL,
  `created_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6),
  `updated_at` datetime(6) NOT NULL DEFAULT utc_timestamp(6) ON UPDATE current_timestamp(6),
  PRIMARY KEY (`context_id`),
  KEY `idx_contexts_vm_name` (`vm_name`),
  KEY `idx_contexts_policy` (`policy_id`),
  CONSTRAINT `fk_vm_replication_contexts_policy_id` FOREIGN KEY (`policy_id`) REFERENCES `backup_policies` (`id`) ON DELETE SET NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
