// The public entry of `chainkeep/nbd`: everything a program needs to read, write and serve disks over NBD.
// It only names what the other files export; what is not here is free to change.

export type { DiskReader } from '../disk/disk-reader.ts';
export type { DiskWriter } from '../disk/disk-writer.ts';
export type { ByteRange, Extent, ExtentKind } from '../disk/extent.ts';
export { openRawReader } from '../disk/raw-file-reader.ts';
export type { ByteSource } from '../plumbing/byte-source.ts';
export { ChainkeepError, isChainkeepError } from '../plumbing/errors.ts';
export { openFileSource } from '../plumbing/file-source.ts';
export { Secret } from '../plumbing/secret.ts';
export { describeAddress, type NbdAddress, parseNbdAddress } from './client/address.ts';
export type { ConnectOptions } from './client/connect-nbd.ts';
export type { ContextRange } from './client/context-ranges.ts';
export { listNbdExports, type NbdInfo, readNbdInfo } from './client/nbd-info.ts';
export { type NbdReader, type NbdReaderOptions, openNbdReader } from './client/nbd-reader.ts';
export { type NbdWriter, type NbdWriterOptions, openNbdWriter } from './client/nbd-writer.ts';
export type { ExportFacts, HeaderStyle } from './client/negotiation.ts';
export { readTlsCredentials, type TlsCredentials } from './client/tls-credentials.ts';
export type { BlockSize } from './protocol/export-info.ts';
export { ALLOCATION_FLAG, BASE_ALLOCATION, DIRTY_BITMAP_PREFIX, DIRTY_FLAG } from './protocol/meta-context.ts';
export type { ListedExport } from './protocol/option-reply.ts';
export { TRANSMISSION_FLAG } from './protocol/transmission-flags.ts';
export type { ListenAddress } from './server/listen-address.ts';
export type { DiskChanges, NbdExport, ServedContext } from './server/nbd-export.ts';
export { DEFAULT_SERVER_LIMITS, type NbdServer, type NbdServerLimits, type NbdServerOptions, openNbdServer } from './server/nbd-server.ts';
export type { ServerTls } from './server/server-tls.ts';
