#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# scripts/quickstart does what a new user is promised, and leaves nothing
# running behind.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use File::Path ();
use IO::Socket::INET;
use POSIX ();
use Test::More;

use LLMBudget;


need_module();

my $script = root() . '/scripts/quickstart';
my $build = "$LLMBudget::BUILD/servroot/quickstart-$$";
my $folder = "$build/quickstart";
my $log = "$build.out";

File::Path::make_path($build);

# what is under test is what the suite tests: no setup, no build

$ENV{LLMB_BUILD} = $build;
$ENV{LLMB_NO_SETUP} = 1;
$ENV{TEST_NGINX_BINARY} = find_nginx();
$ENV{TEST_NGINX_MODULE} = find_module();
delete @ENV{qw(LLMB_PORT OPENAI_API_KEY ANTHROPIC_API_KEY)};

my $pid;
my @pids;
my $owner = $$;


sub start
{
    my (@args) = @_;

    $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        POSIX::setsid();
        open(STDOUT, '>', $log) or POSIX::_exit(127);
        open(STDERR, '>&', \*STDOUT) or POSIX::_exit(127);
        { no warnings; exec($script, @args); }
        POSIX::_exit(127);
    }

    push @pids, $pid;
}


sub output
{
    return read_file($log) // '';
}


# its exit status, undef if it does not end

sub ended
{
    my $status;

    wait_for(sub {
        return 0 if waitpid($pid, POSIX::WNOHANG()) == 0;
        $status = $?;
        return 1;
    }, 60);

    return defined $status ? $status >> 8 || $status : undef;
}


# the processes of the script's session

sub running
{
    my ($session) = @_;

    my @found;

    for my $path (glob('/proc/[0-9]*/stat')) {
        my $stat = read_file($path) // next;

        push @found, $1 if $stat =~ /^(\d+) .*\) [^Z] \d+ \d+ (\d+)/s
            && $2 == $session;
    }

    return @found;
}


# a run with --once

my $port = free_port();

start('--once', '--port', $port);

is(ended(), 0, 'scripts/quickstart --once succeeds') or diag(output());

my $text = output();

like($text, qr/^  alice \S+ +gpt-4o +allow +0\.\d{9} 0\.\d{9}$/m,
     'a call is allowed, its cost shown to the nano-dollar');
like($text, qr/^  alice \S+ +gpt-4o-mini +degrade +0\.\d{9} /m,
     'a call is moved to the cheaper model');
like($text, qr/asked for 2000 tokens, cut to the \d+ /,
     'a call is cut to what is left');
like($text, qr/^  alice \S+ +- +deny +0\.000000000 /m, 'a call is refused');
like($text, qr/^  429 budget_exceeded: The budget "daily" has too little left /m,
     'the refusal is shown');

for my $call ('chat, streamed', 'responses', 'embeddings', 'messages',
              'messages, stream')
{
    like($text, qr/^  bob   \Q$call\E +\S+ +allow +0\.(?!0{9})\d{9} /m,
         "a call is metered: $call");
}

my @sums = $text =~ /^  (?:sum of|ledger,|billed by).* (\d+\.\d{9}) USD$/mg;

is(scalar(@sums), 4, 'the sums are shown');
cmp_ok($sums[0] // 0, '>', 0, 'something was spent');
is(scalar(grep { $_ ne $sums[0] } @sums), 0, 'the sums agree');
like($text, qr/^  the sums agree$/m, 'and it says so');

is_deeply([running($pid)], [], 'no process is left');
is((stat("$folder/provider.key"))[2] & 077, 0,
   'the credential is readable by its owner only');
unlike(read_file("$folder/error.log") // '', qr/\[(?:alert|emerg)\]/,
       'nginx had nothing to report');


# a run that stays, by the port of the environment

$port = free_port();

{
    local $ENV{LLMB_PORT} = $port;
    start();
}

ok(wait_for(sub { output() =~ /^Ctrl-C stops/m }, 60), 'it stays')
    or diag(output());

$text = output();

my @curls = $text =~ /^(curl (?:.*\\\n)*.*)\n/mg;

is(scalar(@curls), 5, 'it shows what to type');

for my $curl (@curls) {
    my ($path) = $curl =~ m{:$port(/\S+)};
    my $answer = qx($curl -s -w '\\n%{http_code}' 2>&1);

    like($answer, qr/^\{.*\n200$/s, "what it shows works: $path")
        or diag("$curl\n$answer");
}

my ($alice) = $curls[0];

$alice =~ s/sk-demo-bob/sk-demo-alice/;

like(qx($alice -s -i 2>&1), qr{\AHTTP/1\.1 429 .*"code":"budget_exceeded"}s,
     'and for alice it is refused');

like($text, qr{^export OPENAI_BASE_URL=http://127\.0\.0\.1:$port/v1 OPENAI_API_KEY=sk-demo-bob$}m,
     'it shows the environment of an OpenAI client');
like($text, qr{^export ANTHROPIC_BASE_URL=http://127\.0\.0\.1:$port ANTHROPIC_API_KEY=sk-demo-bob$}m,
     'it shows the environment of an Anthropic client');

my ($usage) = $text =~ m{^tail -f (\S+)$}m;

is(scalar(usage_lines($usage)),
   scalar(() = $text =~ /^  (?:alice|bob) /mg) + 5,
   'it shows the usage log, with every call');

my $again = qx($script --port $port 2>&1);

is($?, 256, 'a second one in the same folder fails');
is($again, "quickstart: already running in $folder\n", 'and says why');

$again = qx(LLMB_BUILD=$build/other $script --port $port 2>&1);

is($?, 256, 'one on a port that is taken fails');
like($again, qr/\Aquickstart: port $port of 127\.0\.0\.1 is taken: [^\n]+\n\z/,
     'and says why in one line');

kill('INT', $pid);

is(ended(), 0, 'it stops at an interrupt');
is_deeply([running($pid)], [], 'no process is left then');


# what can be wrong before

for my $case ([['--port', 'x'], qr/\Aquickstart: "x" is not a port\n\z/],
              [['--real'], qr/\Aquickstart: --real needs your key [^\n]+\n\z/],
              [['--never'], qr/\Aquickstart: unknown option [^\n]+\n\z/])
{
    my $said = qx($script @{$case->[0]} 2>&1);

    is($?, 256, "@{$case->[0]} fails");
    like($said, $case->[1], 'in one line');
}


done_testing();


END {
    if ($owner == $$) {
        my $code = $?;

        kill('TERM', map { running($_) } @pids);

        if (Test::More->builder->is_passing && !$ENV{TEST_NGINX_LEAVE}) {
            File::Path::remove_tree($build);
            unlink($log);
        }

        $? = $code;
    }
}
