// What a program did to a folder, as a list in the order in which it happened. Nodes are files and folders, numbered; 0 is the folder itself.
// It knows no crash: what a disk may have kept of it is crash-state.ts.

export interface Write {
  readonly kind: 'write';
  readonly node: number;
  readonly at: number;
  readonly bytes: Buffer;
}

export interface Resize {
  readonly kind: 'resize';
  readonly node: number;
  readonly size: number;
}

/** A name in a folder begins to mean a node, or (null) nothing. */
export interface Naming {
  readonly kind: 'name';
  readonly folder: number;
  readonly name: string;
  readonly node: number | null;
}

/** One step of a journalling file system: both names or none. */
export interface Move {
  readonly kind: 'move';
  readonly folder: number;
  readonly from: string;
  readonly to: string;
  readonly node: number;
}

/** fsync or fdatasync that has returned: what was done to the node before `covers` is durable. */
export interface Sync {
  readonly kind: 'sync';
  readonly node: number;
  readonly covers: number;
}

export type Operation = Write | Resize | Naming | Move | Sync;

export interface Recording {
  readonly operations: Operation[];
  /** Which nodes are folders. */
  readonly folders: Set<number>;
}
