// The part of the App's interface that is about jobs: how one is watched while it runs, and the log of all. Others name it through app-interface.ts.

/** Progress of a running job; `total` is 0 until it is known. Bytes of the disk that are settled. */
export interface JobProgress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
}

/** A step that has begun or ended. */
export interface JobStepProgress {
  readonly seq: number;
  readonly name: string;
  readonly status: 'running' | 'completed' | 'failed';
  readonly duration_ms: number;
}

/** How a caller watches and stops what it started. */
export interface JobWatch {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: JobProgress) => void;
  readonly onStep?: (step: JobStepProgress) => void;
  /** A line a person should see: a warning, a fallback and its reason. */
  readonly onNotice?: (message: string) => void;
}

export interface JobView {
  readonly job_id: string;
  readonly parent_job_id: string | null;
  readonly job_type: string;
  readonly operation: string;
  readonly status: string;
  readonly percent_complete: number;
  readonly error_message: string | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly completed_at: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Jobs, the newest first. */
export interface JobPage {
  readonly jobs: readonly JobView[];
  /** The last job of this page, for the next one; null when there is no more. */
  readonly next: string | null;
}

export interface JobDetails {
  readonly job: JobView & {
    readonly context_id: string | null;
    readonly owner: { readonly hostname: string; readonly pid: number } | null;
    /** When a running job was last heard of. */
    readonly heartbeat_at: string | null;
    readonly cancel_requested_at: string | null;
  };
  readonly steps: readonly JobStepView[];
  readonly children: readonly JobView[];
}

export interface JobStepView {
  readonly seq: number;
  readonly name: string;
  readonly status: string;
  readonly started_at: string;
  readonly completed_at: string | null;
  readonly error_message: string | null;
}

export interface JobEventView {
  readonly event_id: number;
  readonly ts: string;
  readonly level: string;
  readonly message: string;
  readonly attrs: Readonly<Record<string, unknown>> | null;
}

/** The job log. A job is named by its id or an unambiguous beginning of one. */
export interface JobLog {
  /** `before`: only jobs older than this one. */
  list(filter: { readonly status?: string; readonly limit: number; readonly before?: string }): Promise<JobPage>;
  show(id: string): Promise<JobDetails>;
  /** In the order in which they were logged; a page of at most `limit` behind `after`, or all of them. */
  events(id: string, page?: { readonly after?: JobEventView; readonly limit: number }): Promise<readonly JobEventView[]>;
  /** Asks the process that runs the job to stop it and its children; a job that nobody runs yet is cancelled at once. Throws JOB_ENDED. */
  cancel(id: string): Promise<{ readonly job_id: string; readonly status: 'cancelling' | 'cancelled' }>;
  /** How many days ended jobs are kept; with `days` from now on. */
  retention(days?: number): Promise<{ readonly retention_days: number }>;
}
