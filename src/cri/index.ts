/** The Container Runtime Interface, v1: message types, codecs and service definitions, generated from `proto/`. */
export * from './generated/runtime/v1/api';
