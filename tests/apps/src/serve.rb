# SPDX-License-Identifier: Apache-2.0
require "socket"
server = TCPServer.new("127.0.0.1", ARGV[0].to_i)
loop do
  Thread.new(server.accept) do |c|
    path = c.gets.split[1]
    nil while c.gets.strip != ""
    body = File.binread("." + path)
    c.write "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: #{body.bytesize}\r\n\r\n"
    c.write body
    c.close
  end
end
