// What is known of each cluster of a disk, in 2 bits, kept in chunks that cost nothing where all of their clusters are alike.
// A disk of 64 TiB of which nothing was touched takes half a megabyte, and 4 MiB for each TiB in which clusters differ.

export const CLUSTER_STATE = { UNTOUCHED: 0, DATA: 1, ZERO: 2 } as const;
export type ClusterState = (typeof CLUSTER_STATE)[keyof typeof CLUSTER_STATE];

const { UNTOUCHED, DATA } = CLUSTER_STATE;

/** Clusters of a chunk. */
const CHUNK = 65_536;
const PER_BYTE = 4;

/** Four clusters of one state in a byte, by state. */
const ALIKE = [0b00000000, 0b01010101, 0b10101010] as const;

export class ClusterStates {
  /** One state for all clusters of a chunk, or the states of each. */
  readonly #chunks: (ClusterState | Uint8Array)[];
  /** Clusters of each chunk that are DATA. */
  readonly #data: Uint32Array;

  constructor(clusters: number) {
    const chunks = Math.ceil(clusters / CHUNK);
    this.#chunks = new Array<ClusterState | Uint8Array>(chunks).fill(UNTOUCHED);
    this.#data = new Uint32Array(chunks);
  }

  at(cluster: number): ClusterState {
    const chunk = this.#chunks[Math.floor(cluster / CHUNK)] ?? UNTOUCHED;
    return typeof chunk === 'number' ? chunk : stateIn(chunk, cluster % CHUNK);
  }

  /** Where the run of one state that begins at `from` ends, `to` at most. */
  runEnd(from: number, to: number): number {
    const state = this.at(from);
    for (let at = from; at < to; ) {
      const chunk = this.#chunks[Math.floor(at / CHUNK)] ?? UNTOUCHED;
      const border = Math.min(to, (Math.floor(at / CHUNK) + 1) * CHUNK);
      if (typeof chunk === 'number') {
        if (chunk !== state) return at;
        at = border;
      } else {
        const first = Math.floor(at / CHUNK) * CHUNK;
        for (; at < border; at += chunk[(at - first) / PER_BYTE] === ALIKE[state] ? PER_BYTE : 1)
          if (stateIn(chunk, at - first) !== state) return at;
      }
    }
    return to;
  }

  /** Clusters from `from` up to `to` that are DATA. */
  countData(from: number, to: number): number {
    let count = 0;
    for (let at = from; at < to; ) {
      const index = Math.floor(at / CHUNK);
      const border = Math.min(to, (index + 1) * CHUNK);
      const end = at % CHUNK === 0 && border === (index + 1) * CHUNK ? border : this.runEnd(at, border);
      if (end - at === CHUNK) count += this.#data[index] ?? 0;
      else if (this.at(at) === DATA) count += end - at;
      at = end;
    }
    return count;
  }

  /** The clusters from `from` up to `to` are in this state from now on. */
  set(from: number, to: number, state: ClusterState): void {
    for (let at = from; at < to; ) {
      const index = Math.floor(at / CHUNK);
      const border = Math.min(to, (index + 1) * CHUNK);
      const before = this.countData(at, border);
      if (border - at === CHUNK) this.#chunks[index] = state;
      else this.#setIn(index, at % CHUNK, border - index * CHUNK, state);
      this.#data[index] = (this.#data[index] ?? 0) - before + (state === DATA ? border - at : 0);
      at = border;
    }
  }

  #setIn(index: number, from: number, to: number, state: ClusterState): void {
    const chunk = this.#chunks[index] ?? UNTOUCHED;
    if (chunk === state) return;
    const states = typeof chunk === 'number' ? new Uint8Array(CHUNK / PER_BYTE).fill(ALIKE[chunk]) : chunk;
    this.#chunks[index] = states;
    for (let at = from; at < to; at++) {
      const shift = (at % PER_BYTE) * 2;
      const byte = Math.floor(at / PER_BYTE);
      states[byte] = ((states[byte] ?? 0) & ~(0b11 << shift)) | (state << shift);
    }
  }
}

function stateIn(states: Uint8Array, at: number): ClusterState {
  return (((states[Math.floor(at / PER_BYTE)] ?? 0) >> ((at % PER_BYTE) * 2)) & 0b11) as ClusterState;
}
