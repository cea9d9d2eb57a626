export { configTable } from './docs';
export { type ConfigFlags, loadConfig } from './load';
export type { Config } from './schema';
