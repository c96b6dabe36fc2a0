#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# scripts/bench measures every case it can, finds nothing wrong with what it
# measured, and leaves nothing running behind.  What the numbers are is not
# tested here.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use File::Path ();
use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

my $script = root() . '/scripts/bench';
my $build = "$LLMBudget::BUILD/servroot/bench-$$";
my $result = "$build/result.json";
my $owner = $$;

File::Path::make_path($build);

$ENV{LLMB_BUILD} = $build;
$ENV{TEST_NGINX_BINARY} = find_nginx();
$ENV{TEST_NGINX_MODULE} = find_module();


# what is wrong is said in one line

for my $case (['--cases nothing', 'no case "nothing" among: json-1k '],
              ['--variants nothing', 'no variant "nothing" among: plain '],
              ['--rounds -1', '--rounds must be above 0'])
{
    my $said = `$script $case->[0] 2>&1`;

    is($? >> 8, 1, "$case->[0] fails");
    like($said, qr/\Abench: \Q$case->[1]\E[^\n]*\n\z/, 'in one line');
}


# a quick run of everything

my $said = `$script --quick --json $result 2>&1`;

is($?, 0, 'a quick run succeeds') or diag($said);
like($said, qr/^checked: every call answered/m, 'it says what was checked');

my $text = read_file($result) // '{}';
my $found = eval { JSON::PP::decode_json($text) } // {};
my $missing = $found->{missing} // {};

for my $name (qw(json-1k latency json-100k json-10m stream-50 stream-500
                 paced-50 burst-500))
{
    my $rows = rows($name, $name =~ /10m|burst|paced/ ? qw(plain on one)
                           : $name =~ /100k|500/ ? qw(plain on one redis-one)
                           : qw(plain on one ten redis-one redis-ten));

    is(scalar(grep { !positive($_, qw(rate cpu_us p50_us p99_us busy
                                      rate_ratio cpu_us_ratio)) } @$rows),
       0, "$name: there are numbers, and they are above 0");
}

for my $name (qw(idle-1 idle-1000 idle-10000)) {
    my $rows = rows($name, qw(plain one redis-one));

    is(scalar(grep { $_->{streams} < 1 || !defined $_->{above} } @$rows), 0,
       "$name: there are numbers");
}

my %rate = map { ($_->{reader} => $_->{bytes_per_second}) }
           @{$found->{results}{scan} // []};

for my $reader ('scanner', 'scanner, 16k pieces', 'request', 'jansson',
                'usage of a stream')
{
    cmp_ok($rate{$reader} // 0, '>', 0, "scan: $reader has a rate");
}

my @ceiling = grep { !$missing->{$_} } qw(redis-one redis-ten);

is_deeply([map { $_->{variant} } @{$found->{results}{'redis-ceiling'} // []}],
          \@ceiling, 'redis-ceiling: a row for each variant that can run');
is(scalar(grep { !positive($_, qw(pairs_per_second script_us redis_cpu_us
                                  open_us post_us ping_us)) }
          @{$found->{results}{'redis-ceiling'} // []}), 0,
   'redis-ceiling: there are numbers, and they are above 0');

cmp_ok(scalar(@{$found->{goals} // []}), '>', 10, 'goals stand beside them');

my @left = map { read_file($_) // '' } glob('/proc/[0-9]*/cmdline');

is_deeply([grep { /\Q$build\E\// } @left], [], 'no process is left');

done_testing();


# Those of the variants that must have been measured.

sub rows
{
    my ($name, @variants) = @_;

    my $rows = $found->{results}{$name} // [];
    my %has = map { ($_->{variant} => 1) } @$rows;

    is_deeply([grep { !$has{$_} && !$missing->{$_} } @variants], [],
              "$name: all variants are there");

    return $rows;
}


sub positive
{
    my ($row, @names) = @_;

    return !grep { ($row->{$_} // 0) <= 0 } @names;
}


END {
    if ($owner == $$) {
        my $code = $?;

        if (Test::More->builder->is_passing && !$ENV{TEST_NGINX_LEAVE}) {
            File::Path::remove_tree($build);
        }

        $? = $code;
    }
}
