// SPDX-License-Identifier: Apache-2.0
// With CLUSTER set: two workers share the listener.
const cluster = require("cluster"), fs = require("fs"), http = require("http");
if (process.env.CLUSTER && cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  http.createServer((q, r) => fs.createReadStream("." + q.url).pipe(r)).listen(+process.argv[2], "127.0.0.1");
}
