// SPDX-License-Identifier: Apache-2.0
// net.js HOST PORT TEXT: a server and many clients in one event loop, half-close, big writes with back-pressure.
const net = require('net');
const [host, port, text] = process.argv.slice(2);
const want = text.repeat(20000);
let left = 20;
const server = net.createServer({ allowHalfOpen: true }, c => c.pipe(c)).listen(+port, '127.0.0.1', () => {
  for (let i = 0; i < 20; i++) {
    const c = net.connect(+port, host);
    const got = [];
    c.on('data', d => got.push(d));
    c.on('end', () => {
      if (Buffer.concat(got).toString() !== want) { console.error('lost bytes'); process.exit(1); }
      if (--left === 0) { server.close(); }
    });
    c.on('error', e => { console.error(e); process.exit(1); });
    c.end(want);
  }
});
