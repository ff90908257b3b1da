// SPDX-License-Identifier: Apache-2.0
// send.js HOST PORT TEXT: accepted connections go to children with child.send, which serve them.
const { fork } = require('child_process');
const net = require('net');
const [host, port, text] = process.argv.slice(2);
if (process.env.CHILD) {
  process.on('message', (m, socket) => { if (socket) { socket.resume(); socket.pipe(socket); } else process.exit(0); });
} else {
  const children = [0, 1].map(() => fork(__filename, process.argv.slice(2), { env: { ...process.env, CHILD: '1' } }));
  let n = 0, left = 8;
  const server = net.createServer({ pauseOnConnect: true }, s => children[n++ % 2].send('take', s)).listen(+port, '127.0.0.1', () => {
    for (let i = 0; i < 8; i++) {
      const c = net.connect(+port, host);
      let got = '';
      c.on('data', d => { got += d; if (got === text.repeat(100)) c.end(); });
      c.on('close', () => {
        if (got !== text.repeat(100)) { console.error('lost bytes', got.length); process.exit(1); }
        if (--left === 0) { children.forEach(k => k.kill()); process.exit(0); }
      });
      c.on('error', e => { console.error(e); process.exit(1); });
      c.write(text.repeat(100));
    }
  });
}
