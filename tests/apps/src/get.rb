# SPDX-License-Identifier: Apache-2.0
require "net/http"
print Net::HTTP.get(URI(ARGV[0]))
