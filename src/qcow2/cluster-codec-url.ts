// Where worker threads find the cluster codec: they load it by this URL, because the room they live in knows no formats.

/** Run from source it is TypeScript, in the published package JavaScript. */
export const CLUSTER_CODEC_URL = new URL(import.meta.url.endsWith('.ts') ? './cluster-codec.ts' : './cluster-codec.js', import.meta.url)
  .href;
