# SPDX-License-Identifier: Apache-2.0
use HTTP::Tiny;
my $r = HTTP::Tiny->new->get($ARGV[0]);
die "$r->{status} $r->{content}" unless $r->{success};
print $r->{content};
