#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A client that does not read holds the provider up, not the worker's memory,
# and one that never reads is charged for what passed (T03, T62).

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

use constant {
    DELTAS => 160_000,
    GROWTH => 2 * 1024 * 1024,      # of a worker, for streams of 20 MB
};

my $deltas = join('', map { qq(data: {"model":"m-std","choices":[{"index":0,)
    . qq("delta":{"content":"w$_ abcdefghijklmnopqrstuvwxyz"},)
    . qq("logprobs":null,"finish_reason":null}]}\n\n) } 1 .. DELTAS);
my $usage = 'data: {"model":"m-std","choices":[],"usage":{"prompt_tokens":100,'
    . qq("completion_tokens":20,"total_tokens":120}}\n\n);
my $done = "data: [DONE]\n\n";
my $event = 'data: {"model":"m-std","choices":[{"index":0,"delta":'
    . '{"content":"' . 'abcd' x 2_000_000 . qq("}}]}\n\n);

my $type = { 'content-type' => 'text/event-stream' };
my $standin = start_standin(vectors => answers_of(
    long => [$type, "$deltas$usage$done"], wide => [$type,
    "$event$event$usage$done"]));
my $nginx = start_nginx(conf => llm_conf(locations => <<'END')
        location /short/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            send_timeout 300ms;
            proxy_pass http://standin/v1/;
            proxy_http_version 1.1;
        }
END
    =~ s/(listen 127.0.0.1:%%PORT%%)/$1 sndbuf=32k/r);

my ($worker) = $nginx->workers();

# one small call, so that the worker has what it needs for any

call('/v1/chat/completions', body(0), standin => 'out=3; prompt=100');

my $small = rss();

for my $asks (0, 1) {
    for my $name ('long', 'wide') {
        my $text = $name eq 'long' ? $deltas : "$event$event";

        slow($name, $asks, $text . ($asks ? $usage : '') . $done);
    }
}

# never read at all

for my $asks (0, 1) {
    my $answer = post_json('/short/v1/chat/completions', body($asks),
        headers => { Authorization => 'Bearer k1' },
        standin => 'vector=long:0', keep => 1, no_read => 1, rcvbuf => 4096);
    my $line = next_line();

    is_line($line, { usage_source => 'estimated', end => 'aborted',
        status => 200 }, 'a client that never reads is an abort (T03)');
    cmp_ok($line->{output_tokens}, '>', 0, '... charged for what passed');
    cmp_ok($line->{cost_nusd}, '<=', $line->{hold_nusd},
           '... and no more than was held');
    close($answer->{sock});
}

agree('the ledger is the sum of the usage log');
$nginx->stop();
done_testing();


sub body
{
    my ($asks) = @_;

    return chat(stream => \1, $asks
        ? (stream_options => { include_usage => \1 }) : ());
}


# Reads nothing for a while, then all of it.

sub slow
{
    my ($name, $asks, $want) = @_;

    my $most = 0;
    my $answer = post_json('/v1/chat/completions', body($asks),
        headers => { Authorization => 'Bearer k1' },
        standin => "vector=$name:0; pieces=777", keep => 1, no_read => 1,
        rcvbuf => 4096);

    for (1 .. 20) {
        sleep_ms(20);
        $most = rss() if rss() > $most;
    }

    $answer = LLMBudget::send_raw('', sock => $answer->{sock});
    $most = rss() if rss() > $most;

    my $line = next_line();
    my $title = "$name, " . ($asks ? 'asked' : 'not asked') . " for usage";

    ok($answer->{body} eq $want && !$answer->{truncated},
       "a client that stalls gets all bytes: $title");
    is_line($line, { usage_source => 'provider', end => 'complete',
                     cost_nusd => 450_000 }, '... and its usage is charged');
    cmp_ok($most - $small, '<', GROWTH,
           '... and the worker keeps little of it (T62)');
}


sub rss
{
    my ($pages) = (read_file("/proc/$worker/statm") =~ /^\d+ (\d+)/);

    return $pages * 4096;
}
