CREATE TABLE "api_tokens" ("id" text not null primary key check (length(id) <= 64), "user_id" text not null check (length(user_id) <= 64), "name" text not null check (length(name) <= 255), "token_hash" text not null check (length(token_hash) <= 128), "role" text default 'viewer' not null check (role in ('viewer', 'operator', 'admin')), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "last_used_at" text check (last_used_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "expires_at" text check (expires_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "revoked_at" text check (revoked_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_api_token" unique ("token_hash"), constraint "fk_api_tokens_user_id" foreign key ("user_id") references "users" ("id") on delete cascade) strict;

CREATE INDEX "idx_api_tokens_user" on "api_tokens" ("user_id");

CREATE TABLE "audit_log" ("id" integer not null primary key autoincrement, "at" text not null check (at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "actor" text not null check (length(actor) <= 255), "action" text not null check (length(action) <= 64), "target" text check (length(target) <= 255), "details" text check (json_valid(details)), "previous_hash" text not null check (length(previous_hash) <= 128), "hash" text not null check (length(hash) <= 128)) strict;

CREATE INDEX "idx_audit_actor" on "audit_log" ("actor", "at");

CREATE INDEX "idx_audit_at" on "audit_log" ("at");

CREATE TRIGGER backup_chains_updated_at after update on backup_chains for each row when new.updated_at = old.updated_at begin
  update backup_chains set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = new.id;
end;

CREATE TABLE "backup_chains" ("id" text not null primary key check (length(id) <= 64), "vm_context_id" text not null check (length(vm_context_id) <= 191), "disk_id" int not null, "repository_id" text not null check (length(repository_id) <= 64), "full_backup_id" text not null check (length(full_backup_id) <= 64), "latest_backup_id" text not null check (length(latest_backup_id) <= 64), "total_backups" int default 0 not null, "total_size_bytes" integer default 0 not null check (total_size_bytes >= 0), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_chain" unique ("vm_context_id", "disk_id", "repository_id", "full_backup_id"), constraint "fk_backup_chains_vm_context_id" foreign key ("vm_context_id") references "vm_replication_contexts" ("context_id") on delete restrict, constraint "fk_backup_chains_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete restrict, constraint "fk_backup_chains_full_backup_id" foreign key ("full_backup_id") references "backup_jobs" ("id") on delete restrict, constraint "fk_backup_chains_latest_backup_id" foreign key ("latest_backup_id") references "backup_jobs" ("id") on delete restrict) strict;

CREATE INDEX "idx_chains_full" on "backup_chains" ("full_backup_id");

CREATE INDEX "idx_chains_latest" on "backup_chains" ("latest_backup_id");

CREATE INDEX "idx_chains_repository" on "backup_chains" ("repository_id");

CREATE TABLE "backup_copies" ("id" text not null primary key check (length(id) <= 64), "source_backup_id" text not null check (length(source_backup_id) <= 64), "repository_id" text not null check (length(repository_id) <= 64), "copy_rule_id" text check (length(copy_rule_id) <= 64), "status" text default 'pending' not null check (status in ('pending', 'copying', 'verifying', 'completed', 'failed', 'cancelled')), "file_path" text not null check (length(file_path) <= 512), "size_bytes" integer default 0 not null check (size_bytes >= 0), "bytes_copied" integer default 0 not null check (bytes_copied >= 0), "copy_started_at" text check (copy_started_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "copy_completed_at" text check (copy_completed_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "verified_at" text check (verified_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "verification_status" text default 'pending' not null check (verification_status in ('pending', 'passed', 'failed')), "error_message" text, "attempts" int default 0 not null, "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_backup_repo" unique ("source_backup_id", "repository_id"), constraint "fk_backup_copies_source_backup_id" foreign key ("source_backup_id") references "backup_jobs" ("id") on delete cascade, constraint "fk_backup_copies_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete restrict, constraint "fk_backup_copies_copy_rule_id" foreign key ("copy_rule_id") references "backup_copy_rules" ("id") on delete set null) strict;

CREATE INDEX "idx_copies_repository" on "backup_copies" ("repository_id");

CREATE INDEX "idx_copies_rule" on "backup_copies" ("copy_rule_id");

CREATE INDEX "idx_copies_status" on "backup_copies" ("status");

CREATE TABLE "backup_copy_rules" ("id" text not null primary key check (length(id) <= 64), "policy_id" text not null check (length(policy_id) <= 64), "destination_repository_id" text not null check (length(destination_repository_id) <= 64), "copy_mode" text default 'immediate' not null check (copy_mode in ('immediate', 'scheduled', 'manual')), "priority" int default 0 not null, "enabled" int default 1 not null check (enabled in (0, 1)), "verify_after_copy" int default 1 not null check (verify_after_copy in (0, 1)), "schedule" text check (length(schedule) <= 255), "retention" text check (json_valid(retention)), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_backup_copy_rules_policy_id" foreign key ("policy_id") references "backup_policies" ("id") on delete cascade, constraint "fk_backup_copy_rules_destination_repository_id" foreign key ("destination_repository_id") references "backup_repositories" ("id") on delete restrict) strict;

CREATE INDEX "idx_copy_rules_destination" on "backup_copy_rules" ("destination_repository_id");

CREATE INDEX "idx_copy_rules_policy" on "backup_copy_rules" ("policy_id");

CREATE INDEX "idx_copy_rules_priority" on "backup_copy_rules" ("priority");

CREATE TABLE "backup_jobs" ("id" text not null primary key check (length(id) <= 64), "vm_context_id" text not null check (length(vm_context_id) <= 191), "vm_name" text not null check (length(vm_name) <= 255), "disk_id" int not null, "repository_id" text not null check (length(repository_id) <= 64), "policy_id" text check (length(policy_id) <= 64), "backup_type" text not null check (backup_type in ('full', 'incremental', 'differential')), "status" text default 'pending' not null check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')), "repository_path" text not null check (length(repository_path) <= 512), "parent_backup_id" text check (length(parent_backup_id) <= 64), "change_id" text check (length(change_id) <= 191), "bytes_transferred" integer default 0 not null check (bytes_transferred >= 0), "total_bytes" integer default 0 not null check (total_bytes >= 0), "size_bytes" integer default 0 not null check (size_bytes >= 0), "compression_enabled" int default 1 not null check (compression_enabled in (0, 1)), "error_message" text, "restore_point_id" text check (length(restore_point_id) <= 64), "chain_id" text check (length(chain_id) <= 64), "digest_root" text check (length(digest_root) <= 128), "content_root" text check (length(content_root) <= 128), "protected_until" text check (protected_until glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "verified_at" text check (verified_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "verification_status" text default 'never' not null check (verification_status in ('never', 'passed', 'failed')), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "started_at" text check (started_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "completed_at" text check (completed_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_backup_jobs_vm_context_id" foreign key ("vm_context_id") references "vm_replication_contexts" ("context_id") on delete restrict, constraint "fk_backup_jobs_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete restrict, constraint "fk_backup_jobs_policy_id" foreign key ("policy_id") references "backup_policies" ("id") on delete set null, constraint "fk_backup_jobs_parent_backup_id" foreign key ("parent_backup_id") references "backup_jobs" ("id") on delete restrict) strict;

CREATE INDEX "idx_backup_jobs_chain" on "backup_jobs" ("chain_id", "created_at", "id");

CREATE INDEX "idx_backup_jobs_created" on "backup_jobs" ("created_at", "id");

CREATE INDEX "idx_backup_jobs_parent" on "backup_jobs" ("parent_backup_id");

CREATE INDEX "idx_backup_jobs_policy" on "backup_jobs" ("policy_id");

CREATE INDEX "idx_backup_jobs_repository" on "backup_jobs" ("repository_id", "created_at", "id");

CREATE INDEX "idx_backup_jobs_status" on "backup_jobs" ("status", "created_at", "id");

CREATE INDEX "idx_backup_jobs_vm_context" on "backup_jobs" ("vm_context_id", "created_at", "id");

CREATE TRIGGER backup_policies_updated_at after update on backup_policies for each row when new.updated_at = old.updated_at begin
  update backup_policies set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = new.id;
end;

CREATE TABLE "backup_policies" ("id" text not null primary key check (length(id) <= 64), "name" text not null check (length(name) <= 255), "enabled" int default 1 not null check (enabled in (0, 1)), "primary_repository_id" text not null check (length(primary_repository_id) <= 64), "retention_days" int default 30 not null, "retention" text check (json_valid(retention)), "schedule" text check (length(schedule) <= 255), "full_every" text check (length(full_every) <= 64), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_policy_name" unique ("name"), constraint "fk_backup_policies_primary_repository_id" foreign key ("primary_repository_id") references "backup_repositories" ("id") on delete restrict) strict;

CREATE INDEX "idx_policies_repository" on "backup_policies" ("primary_repository_id");

CREATE TRIGGER backup_repositories_updated_at after update on backup_repositories for each row when new.updated_at = old.updated_at begin
  update backup_repositories set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = new.id;
end;

CREATE TABLE "backup_repositories" ("id" text not null primary key check (length(id) <= 64), "name" text not null check (length(name) <= 255), "repository_type" text not null check (repository_type in ('local', 'nfs', 'cifs', 'smb', 's3', 'azure')), "enabled" int default 1 not null check (enabled in (0, 1)), "config" text not null check (json_valid(config)), "is_immutable" int default 0 not null check (is_immutable in (0, 1)), "immutable_config" text check (json_valid(immutable_config)), "min_retention_days" int default 0 not null, "total_size_bytes" integer default 0 not null check (total_size_bytes >= 0), "used_size_bytes" integer default 0 not null check (used_size_bytes >= 0), "available_size_bytes" integer default 0 not null check (available_size_bytes >= 0), "last_check_at" text check (last_check_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "health" text default 'unknown' not null check (health in ('healthy', 'warning', 'offline', 'unknown')), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_name" unique ("name")) strict;

CREATE INDEX "idx_enabled" on "backup_repositories" ("enabled");

CREATE INDEX "idx_immutable" on "backup_repositories" ("is_immutable");

CREATE INDEX "idx_type" on "backup_repositories" ("repository_type");

CREATE TABLE "holds" ("id" text not null primary key check (length(id) <= 64), "backup_id" text not null check (length(backup_id) <= 64), "reason" text not null, "created_by" text not null check (length(created_by) <= 255), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "lifted_by" text check (length(lifted_by) <= 255), "lifted_at" text check (lifted_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_holds_backup_id" foreign key ("backup_id") references "backup_jobs" ("id") on delete cascade) strict;

CREATE INDEX "idx_holds_backup" on "holds" ("backup_id");

CREATE TABLE "job_heartbeats" ("job_id" text not null primary key check (length(job_id) <= 64), "beat_at" text not null check (beat_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "cancel_requested_at" text check (cancel_requested_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "cancel_reason" text, constraint "fk_job_heartbeats_job_id" foreign key ("job_id") references "job_tracking" ("id") on delete cascade) strict;

CREATE TABLE "job_steps" ("id" text not null primary key check (length(id) <= 64), "job_id" text not null check (length(job_id) <= 64), "seq" int not null, "name" text not null check (length(name) <= 191), "status" text default 'running' not null check (status in ('running', 'completed', 'failed', 'skipped')), "started_at" text not null check (started_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "completed_at" text check (completed_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "error_message" text, "metadata" text check (json_valid(metadata)), constraint "unique_job_seq" unique ("job_id", "seq"), constraint "fk_job_steps_job_id" foreign key ("job_id") references "job_tracking" ("id") on delete cascade) strict;

CREATE TRIGGER job_tracking_updated_at after update on job_tracking for each row when new.updated_at = old.updated_at begin
  update job_tracking set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = new.id;
end;

CREATE TABLE "job_tracking" ("id" text not null primary key check (length(id) <= 64), "parent_job_id" text check (length(parent_job_id) <= 64), "job_type" text not null check (length(job_type) <= 64), "operation" text not null check (length(operation) <= 191), "status" text default 'pending' not null check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')), "owner" text check (json_valid(owner)), "context_id" text check (length(context_id) <= 191), "external_job_id" text check (length(external_job_id) <= 191), "metadata" text check (json_valid(metadata)), "percent_complete" int default 0 not null, "error_message" text, "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "started_at" text check (started_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "completed_at" text check (completed_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "canceled_at" text check (canceled_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_job_tracking_parent_job_id" foreign key ("parent_job_id") references "job_tracking" ("id") on delete set null) strict;

CREATE INDEX "idx_jobs_context" on "job_tracking" ("context_id");

CREATE INDEX "idx_jobs_created" on "job_tracking" ("created_at");

CREATE INDEX "idx_jobs_external" on "job_tracking" ("external_job_id");

CREATE INDEX "idx_jobs_parent" on "job_tracking" ("parent_job_id");

CREATE INDEX "idx_jobs_status" on "job_tracking" ("status", "created_at");

CREATE TABLE "leases" ("id" text not null primary key check (length(id) <= 64), "repository_id" text not null check (length(repository_id) <= 64), "vm_context_id" text not null check (length(vm_context_id) <= 191), "disk_id" int not null, "job_id" text not null check (length(job_id) <= 64), "owner" text not null check (json_valid(owner)), "acquired_at" text not null check (acquired_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "expires_at" text not null check (expires_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_lease" unique ("repository_id", "vm_context_id", "disk_id"), constraint "fk_leases_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete cascade, constraint "fk_leases_vm_context_id" foreign key ("vm_context_id") references "vm_replication_contexts" ("context_id") on delete cascade) strict;

CREATE INDEX "idx_leases_vm_context" on "leases" ("vm_context_id");

CREATE TABLE "log_events" ("id" integer not null primary key autoincrement, "job_id" text not null check (length(job_id) <= 64), "step_id" text check (length(step_id) <= 64), "level" text not null check (level in ('debug', 'info', 'warn', 'error')), "message" text not null, "attrs" text check (json_valid(attrs)), "ts" text not null check (ts glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_log_events_job_id" foreign key ("job_id") references "job_tracking" ("id") on delete cascade, constraint "fk_log_events_step_id" foreign key ("step_id") references "job_steps" ("id") on delete set null) strict;

CREATE INDEX "idx_log_events_job" on "log_events" ("job_id", "ts");

CREATE INDEX "idx_log_events_step" on "log_events" ("step_id");

CREATE TABLE "push_completions" ("job_id" text not null primary key check (length(job_id) <= 64), "change_id" text check (length(change_id) <= 191), "requested_at" text not null check (requested_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_push_completions_job_id" foreign key ("job_id") references "job_tracking" ("id") on delete cascade) strict;

CREATE TABLE "readers" ("id" text not null primary key check (length(id) <= 64), "backup_id" text not null check (length(backup_id) <= 64), "repository_id" text not null check (length(repository_id) <= 64), "job_id" text check (length(job_id) <= 64), "owner" text not null check (json_valid(owner)), "acquired_at" text not null check (acquired_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "expires_at" text not null check (expires_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_readers_backup_id" foreign key ("backup_id") references "backup_jobs" ("id") on delete cascade, constraint "fk_readers_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete cascade) strict;

CREATE INDEX "idx_readers_backup" on "readers" ("backup_id", "repository_id");

CREATE INDEX "idx_readers_repository" on "readers" ("repository_id");

CREATE TRIGGER secrets_updated_at after update on secrets for each row when new.updated_at = old.updated_at begin
  update secrets set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = new.id;
end;

CREATE TABLE "secrets" ("id" text not null primary key check (length(id) <= 64), "repository_id" text not null check (length(repository_id) <= 64), "name" text not null check (length(name) <= 64), "key_id" text not null check (length(key_id) <= 64), "sealed" text not null, "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_secret" unique ("repository_id", "name"), constraint "fk_secrets_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete cascade) strict;

CREATE TABLE "sessions" ("id" text not null primary key check (length(id) <= 64), "user_id" text not null check (length(user_id) <= 64), "token_hash" text not null check (length(token_hash) <= 128), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "last_used_at" text not null check (last_used_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "expires_at" text not null check (expires_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_session_token" unique ("token_hash"), constraint "fk_sessions_user_id" foreign key ("user_id") references "users" ("id") on delete cascade) strict;

CREATE INDEX "idx_sessions_expires" on "sessions" ("expires_at");

CREATE INDEX "idx_sessions_user" on "sessions" ("user_id");

CREATE TRIGGER settings_updated_at after update on settings for each row when new.updated_at = old.updated_at begin
  update settings set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where name = new.name;
end;

CREATE TABLE "settings" ("name" text not null primary key check (length(name) <= 191), "value" text not null check (json_valid(value)), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z')) strict;

CREATE TABLE "space_reservations" ("id" text not null primary key check (length(id) <= 64), "repository_id" text not null check (length(repository_id) <= 64), "job_id" text not null check (length(job_id) <= 64), "bytes" integer not null check (bytes >= 0), "owner" text not null check (json_valid(owner)), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "expires_at" text not null check (expires_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_space_reservations_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete cascade) strict;

CREATE INDEX "idx_reservations_repository" on "space_reservations" ("repository_id");

CREATE TABLE "storage_samples" ("id" integer not null primary key autoincrement, "repository_id" text not null check (length(repository_id) <= 64), "sampled_at" text not null check (sampled_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "total_bytes" integer not null check (total_bytes >= 0), "used_bytes" integer not null check (used_bytes >= 0), "available_bytes" integer not null check (available_bytes >= 0), constraint "fk_storage_samples_repository_id" foreign key ("repository_id") references "backup_repositories" ("id") on delete cascade) strict;

CREATE INDEX "idx_samples_repository" on "storage_samples" ("repository_id", "sampled_at");

CREATE TRIGGER users_updated_at after update on users for each row when new.updated_at = old.updated_at begin
  update users set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = new.id;
end;

CREATE TABLE "users" ("id" text not null primary key check (length(id) <= 64), "name" text not null check (length(name) <= 255), "password_hash" text check (length(password_hash) <= 255), "role" text default 'viewer' not null check (role in ('viewer', 'operator', 'admin')), "enabled" int default 1 not null check (enabled in (0, 1)), "last_login_at" text check (last_login_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "unique_user_name" unique ("name")) strict;

CREATE TRIGGER vm_replication_contexts_updated_at after update on vm_replication_contexts for each row when new.updated_at = old.updated_at begin
  update vm_replication_contexts set updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where context_id = new.context_id;
end;

CREATE TABLE "vm_replication_contexts" ("context_id" text not null primary key check (length(context_id) <= 191), "external_id" text check (length(external_id) <= 255), "vm_name" text not null check (length(vm_name) <= 255), "platform" text default 'other' not null check (platform in ('vmware', 'kvm', 'hyperv', 'cloudstack', 'aws', 'other')), "metadata" text check (json_valid(metadata)), "policy_id" text check (length(policy_id) <= 64), "created_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (created_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), "updated_at" text default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) not null check (updated_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]*Z'), constraint "fk_vm_replication_contexts_policy_id" foreign key ("policy_id") references "backup_policies" ("id") on delete set null) strict;

CREATE INDEX "idx_contexts_policy" on "vm_replication_contexts" ("policy_id");

CREATE INDEX "idx_contexts_vm_name" on "vm_replication_contexts" ("vm_name");
