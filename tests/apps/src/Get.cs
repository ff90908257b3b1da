// SPDX-License-Identifier: Apache-2.0
// Get HOST PORT: a request over a TcpClient, the body to standard output.
using System;
using System.IO;
using System.Net.Sockets;
using System.Text;

class Get {
    static void Main(string[] args) {
        using (var c = new TcpClient(args[0], int.Parse(args[1])))
        using (var s = new BufferedStream(c.GetStream())) {
            var q = Encoding.ASCII.GetBytes("GET /big HTTP/1.0\r\n\r\n");
            s.Write(q, 0, q.Length);
            s.Flush();
            int state = 0, b;
            while (state < 4 && (b = s.ReadByte()) >= 0) state = b == (state % 2 == 0 ? '\r' : '\n') ? state + 1 : 0;
            s.CopyTo(Console.OpenStandardOutput());
        }
    }
}
