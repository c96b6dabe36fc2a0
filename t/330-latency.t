#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Event streams pass unbuffered, although proxy_buffering is on: the provider
# waits for what the client has before it goes on.  Answers that are not
# streams are buffered as configured, and a cached one costs nothing.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

my $standin = start_standin();
my $nginx = start_nginx(conf => llm_conf(
    proxy => "            proxy_buffering on;\n"
           . '            proxy_buffers 8 64k;',
    http => '    proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;',
    locations => <<'END'));
        location /cached/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_cache cache;
            proxy_cache_methods POST;
            proxy_cache_key $uri$llm_budget_body_sha256;
            proxy_cache_valid 200 1h;
            proxy_ignore_headers Cache-Control;
            add_header X-Cache $upstream_cache_status;
            proxy_pass http://standin/v1/;
            proxy_http_version 1.1;
        }
END

my $messages = chat()->{messages};
my %call = (
    chat => ['/v1/chat/completions', chat(), qr/abc /],
    asked => ['/v1/chat/completions', chat(stream_options =>
              { include_usage => \1 }), qr/abc /],
    completions => ['/v1/completions', { model => 'm-std',
                    prompt => 'abcd' }, qr/abc /],
    responses => ['/v1/responses', { model => 'm-std', input => 'abcd' },
                  qr/"delta":"abc /],
    messages => ['/v1/messages', { model => 'c-std', max_tokens => 400,
                 messages => $messages }, qr/"text":"abc /],
);

# the stand-in sends so many deltas and no more until the client leaves,
# which it does when it has them all: else this would time out

for my $name (sort keys %call) {
    my ($path, $body, $delta) = @{$call{$name}};

    for my $n (1, 2, 7) {
        for my $pieces ('', '; pieces=5') {
            my ($answer, $line) = call($path, { %$body, stream => \1 },
                standin => "out=100; wait_after=$n$pieces",
                abort_on => qr/\A(?>.*?$delta){$n}.*?\n\n/s);

            ok($answer->{aborted} && !$answer->{timed_out},
               "$name: delta $n arrives before the next is sent$pieces");
            is(() = $answer->{body} =~ /$delta/g, $n, '... and no more');
        }
    }
}

# a comment and an event that is not yet whole go on at once, too: what is
# held back is only what may be a usage frame

{
    my ($path, $body) = @{$call{chat}};
    my ($answer, $line) = call($path, { %$body, stream => \1 },
        standin => 'out=3; prompt=100; gap=30');

    cmp_ok($answer->{t_end} - $answer->{t_body}, '>', 0.03,
           'events come one by one as they are sent');
    is($line->{cost_nusd}, 280_000, '... and are charged');
}

# plain answers

{
    my ($answer, $line, $bill) = call('/v1/chat/completions', chat(),
        standin => 'out=20; prompt=100; pad=300000');

    cmp_ok(length($answer->{body}), '>', 300000,
           'a long answer passes, buffered');
    is_line($line, { usage_source => 'provider', end => 'complete',
                     cost_nusd => 450_000 }, '... and is charged');

    ($answer, $line) = call('/v1/embeddings', { model => 'm-embed',
        input => [('abcd') x 10] }, standin => 'dims=50000; prompt=100');

    cmp_ok(length($answer->{body}), '>', 5_000_000,
           'one that needs a temporary file passes, too (T12)');
    is_line($line, { usage_source => 'provider', end => 'complete',
                     cost_nusd => 2_000 }, '... and is charged');
}

# a cache hit costs nothing; a stream with a usage frame of ours in it is not
# kept, as others would be shown the frame (T09)

for my $case (['answer', {}, 1], ['stream', { stream => \1 }, 0],
              ['stream with usage', { stream => \1, stream_options =>
               { include_usage => \1 } }, 1]) {
    my ($what, $members, $kept) = @$case;
    my @bodies;

    for my $want ('MISS', $kept ? ('HIT', 'HIT') : ('MISS')) {
        my ($answer, $line) = call('/cached/v1/chat/completions',
            chat(max_tokens => 30, %$members),
            standin => 'prompt=100; out=20', billed => 0);

        is($answer->{headers}{'x-cache'}, $want, "a cached $what: $want");
        is_line($line, $want eq 'MISS'
            ? { usage_source => 'provider', end => 'complete',
                cost_nusd => 450_000 }
            : { usage_source => 'none', end => 'cache_hit', cost_nusd => 0,
                input_tokens => 0 },
            $want eq 'MISS' ? '... is paid' : '... costs nothing');
        push @bodies, $answer->{body};
    }

    if ($kept) {
        is($bodies[1], $bodies[0], "the cached $what is the one paid for");
        is($bodies[2], $bodies[0], '... every time');

    } else {
        unlike($_, qr/"usage":\{/, '... and has no usage') for @bodies;
    }
}

agree('the ledger is the sum of the usage log');
$nginx->stop();
done_testing();
