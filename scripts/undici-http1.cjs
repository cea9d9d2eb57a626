'use strict';
// Of undici what the daemon's HTTP thread uses. All of it loads fetch, WebSockets, caches, mocks and HTTP/2 as well, and
// much of Node's own library with them: two thirds of what the first request of a pull waits for the thread.
const api = require('undici/lib/api/api-request');
const Dispatcher = require('undici/lib/dispatcher/dispatcher');

Object.assign(Dispatcher.prototype, { request: api });

module.exports = {
  Agent: require('undici/lib/dispatcher/agent'),
  ProxyAgent: require('undici/lib/dispatcher/proxy-agent'),
};
