# SPDX-License-Identifier: Apache-2.0
WWW = File.join(__dir__, "www")
run lambda { |env|
  body = File.binread(File.join(WWW, File.basename(env["PATH_INFO"])))
  [200, { "content-type" => "text/plain", "content-length" => body.bytesize.to_s }, [body]]
}
