// The arrows of the house as rules: which room may import which. The same table stands in ARCHITECTURE.md.
// Everything that is not listed here is forbidden; a new room needs a line.

/** Room → what it may import besides itself. */
const ARROWS = {
  plumbing: [],
  contract: [],
  disk: ['plumbing'],
  store: ['plumbing'],
  qcow2: ['plumbing', 'disk'],
  nbd: ['plumbing', 'disk'],
  transfer: ['plumbing', 'disk'],
  source: ['plumbing', 'disk', 'qcow2', 'nbd'],
  repository: ['plumbing', 'disk', 'qcow2', 'store', 'transfer'],
  catalog: ['plumbing'],
  control: ['plumbing', 'store', 'repository', 'catalog'],
  jobs: ['plumbing', 'disk', 'store', 'qcow2', 'nbd', 'transfer', 'source', 'repository', 'catalog', 'control'],
  api: ['plumbing', 'contract', 'store', 'repository', 'catalog', 'control', 'jobs'],
  cli: ['plumbing', 'contract', 'disk', 'qcow2', 'nbd', 'transfer'],
};

/** Rooms that may name the types of another room, and no code of it. */
const TYPES_ONLY = { catalog: ['repository'] };

/** The wiring may lie in several files; `cli` opens app.ts, and `jobs` knows too what interface that has. */
const WIRING = '^src/app[a-z-]*\\.ts$';
const APP = '^src/app\\.ts$';
const APP_INTERFACE = '^src/app-interface\\.ts$';

/** Packages that are known in one place only. */
const PACKAGES = [
  { name: 'sql', packages: ['better-sqlite3', 'kysely', 'mysql2'], home: '^src/catalog/' },
  { name: 'foreign-functions', packages: ['koffi'], home: '^src/plumbing/native\\.ts$' },
  { name: 's3', packages: ['@aws-sdk'], home: '^src/store/s3/' },
  { name: 'azure', packages: ['@azure/storage-blob'], home: '^src/store/azure/' },
  { name: 'command-line', packages: ['commander'], home: '^src/cli/' },
];

const roomRules = Object.entries(ARROWS).flatMap(([room, targets]) => {
  const typed = TYPES_ONLY[room] ?? [];
  const allowed = [room, ...targets].map((name) => `^src/${name}/`);
  if (room === 'cli') allowed.push(APP, APP_INTERFACE);
  const typesOnly = [...typed.map((name) => `^src/${name}/`), ...(room === 'jobs' ? [APP_INTERFACE] : [])];
  return [
    {
      name: `arrows-${room}`,
      comment: `${room} may import ${targets.join(', ') || 'nothing of the house'}`,
      severity: 'error',
      from: { path: `^src/${room}/` },
      to: { path: '^src/', pathNot: [...allowed, ...typesOnly] },
    },
    ...typesOnly.map((path) => ({
      name: `types-only-${room}`,
      comment: `${room} may import only types of ${path}`,
      severity: 'error',
      from: { path: `^src/${room}/` },
      to: { path, dependencyTypesNot: ['type-only'] },
    })),
  ];
});

const packageRules = PACKAGES.map(({ name, packages, home }) => ({
  name: `only-here-${name}`,
  severity: 'error',
  from: { path: '^src/', pathNot: home },
  to: { path: packages.map((name) => `node_modules/${name}/`), dependencyTypesNot: ['type-only'] },
}));

module.exports = {
  forbidden: [
    ...roomRules,
    ...packageRules,
    {
      name: 'known-room',
      comment: 'a file lies in a room of the table, or is app.ts or main.ts',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: [...Object.keys(ARROWS).map((room) => `^src/${room}/`), WIRING] },
    },
    {
      name: 'main-only-calls-the-cli',
      severity: 'error',
      from: { path: '^src/main\\.ts$' },
      to: { path: '^src/', pathNot: '^src/cli/program\\.ts$' },
    },
    {
      name: 'no-child-processes',
      comment: 'other programs are run only to mount, to open sources, and by the suites that judge a store',
      severity: 'error',
      from: { path: '^src/', pathNot: ['^src/source/', '^src/store/mounted/', '^src/[a-z0-9]+/testing/'] },
      to: { path: '^(node:)?child_process$' },
    },
    {
      name: 'no-circles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-tests-in-the-product',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench|scripts)/' },
    },
    {
      name: 'resolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: 'specify',
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      mainFields: ['module', 'main', 'types'],
    },
  },
};
