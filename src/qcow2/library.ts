// The public entry of `chainkeep/qcow2`: everything a program needs to read, check and write QCOW2 images.
// It only names what the other files export; what is not here is free to change.

export type { DiskReader } from '../disk/disk-reader.ts';
export type { ByteRange, Compression, Extent, ExtentKind, Stored } from '../disk/extent.ts';
export { overlay } from '../disk/overlay.ts';
export type { ByteSink } from '../plumbing/byte-sink.ts';
export type { ByteSource } from '../plumbing/byte-source.ts';
export { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
export { openFileSource } from '../plumbing/file-source.ts';
export { type CheckProblem, type CheckReport, checkReportFields, type ProblemKind } from './check-report.ts';
export { type CheckOptions, checkImage } from './checker.ts';
export { type ClusterCodec, createClusterCodec } from './cluster-codec.ts';
export type { BackingName, ClusterCompression, Qcow2Header } from './header.ts';
export { type OpenOptions, openQcow2, type Qcow2Image } from './image.ts';
export { type BitmapInfo, type FormatInfo, type ImageInfo, readImageInfo, type SnapshotInfo } from './image-info.ts';
export { type MapEntry, mapImage } from './image-map.ts';
export { DEFAULT_LIMITS, type Qcow2Limits } from './limits.ts';
export type { Mapping } from './mapping.ts';
export { createTableCache, type TableCache } from './table-cache.ts';
export { createQcow2, createQcow2File, headLengthFor, type Qcow2Writer, type WriteOptions } from './writer.ts';
