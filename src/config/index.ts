export { configTable } from './docs';
export { type ConfigFlags, defaultConfigFile, loadConfig } from './load';
export type { Config } from './schema';
