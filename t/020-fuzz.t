#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Each fuzz target for LLMB_FUZZ_SECONDS, 10 if not set, from the corpora in
# t/fuzz/corpus; scripts/fuzz runs them for longer.


use strict;
use warnings;

use FindBin;
use Test::More;


my $root = "$FindBin::Bin/..";
my $seconds = $ENV{LLMB_FUZZ_SECONDS} // 10;

my @names = map { m{/fuzz_(\w+)\.c$} } sort glob("$root/t/fuzz/fuzz_*.c");

plan skip_all => 'no fuzz targets' if !@names;
plan skip_all => 'clang is not installed'
    if system('command -v clang >/dev/null 2>&1') != 0;
plan skip_all => 'LLMB_FUZZ_SECONDS is 0' if $seconds !~ /^[1-9]\d*$/;

plan tests => 1 + @names;

my $output = `$root/scripts/fuzz 0 2>&1`;

ok($? == 0, 'the fuzz targets build') or diag($output);

for my $name (@names) {
    $output = `$root/scripts/fuzz $seconds $name 2>&1`;

    ok($? == 0, "$name: no finding in $seconds seconds") or diag($output);
    note($output);
}
