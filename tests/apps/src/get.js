// SPDX-License-Identifier: Apache-2.0
require("http").get(process.argv[2], r => {
  r.pipe(process.stdout);
}).on("error", e => {
  console.error(e.message);
  process.exit(1);
});
