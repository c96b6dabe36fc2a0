#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# However a provider fails, the hold ends, and what is charged is what it may
# bill: never nothing for what was generated, never a guess for an error
# (T02, T03, T37, T44, T45, T47).

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

my $standin = start_standin();
my $nginx = start_nginx(workers => 2, conf => llm_conf(
    proxy => '            proxy_read_timeout 500ms;',
    upstreams => ['127.0.0.1:%%STANDIN%% max_fails=0'],
    http => <<'END', locations => <<'END'));
    upstream nobody {
        server 127.0.0.1:%%PORT1%% max_fails=0;
    }
    upstream first_is_gone {
        server 127.0.0.1:%%PORT1%% max_fails=0;
        server 127.0.0.1:%%STANDIN%% backup max_fails=0;
    }
END
        location /nobody/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_pass http://nobody/v1/;
        }
        location /next/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_pass http://first_is_gone/v1/;
        }
        location /intercepted/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_intercept_errors on;
            error_page 500 = /page;
            proxy_pass http://standin/v1/;
        }
        location = /page {
            internal;
            default_type application/json;
            return 503 '{"page":1}';
        }
END

my $messages = chat()->{messages};
my $chat = chat(max_tokens => 400, stream_options =>
                { include_usage => \1 });
my %call = (
    chat => ['/v1/chat/completions', $chat],
    completions => ['/v1/completions', { model => 'm-std', prompt => 'abcd',
                    max_tokens => 400, stream_options =>
                    { include_usage => \1 } }],
    responses => ['/v1/responses', { model => 'm-std', input => 'abcd',
                  max_output_tokens => 400 }],
    messages => ['/v1/messages', { model => 'c-std', max_tokens => 400,
                 messages => $messages }],
    embeddings => ['/v1/embeddings', { model => 'm-embed',
                   input => 'abcd' }],
);
my @generates = qw(chat completions messages responses);

# streams that break off

for my $dialect (@generates) {
    my ($path, $body) = @{$call{$dialect}};

    for my $events (0, 2, 3, 10, 30) {
        my ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
            standin => "out=200; count=body; cut_events=$events");

        is_line($line, { usage_source => 'estimated', end => 'upstream_cut',
            status => 200, cost_nusd => $bill->{billed_nusd},
            input_tokens => $bill->{input},
            output_tokens => $bill->{output} },
            "$dialect: a stream cut after $events events is paid to there "
            . '(T03)');
        ok($answer->{truncated}, '... and the client sees that it was cut');
    }

    # a reset may take bytes with it that had come

    my ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
        standin => 'out=200; count=body; cut_events=30; rst=1');

    is_line($line, { end => 'upstream_cut', usage_source => 'estimated' },
            "$dialect: so is one that ends by a reset");
    cmp_ok($line->{output_tokens}, '<=', $bill->{output},
           '... for no more than was sent');
    cmp_ok($line->{input_tokens}, '>', 0, '... and for its prompt');
}

# answers that break off: what is told counts, else what is there

for my $case (['usage=head; cut=400', 'provider', 'upstream_cut'],
              ['cut=400', 'estimated', 'upstream_cut'],
              ['cut=0', 'estimated', 'upstream_cut']) {
    my ($controls, $source, $end) = @$case;
    my ($path, $body) = @{$call{chat}};
    my ($answer, $line, $bill) = call($path, $body,
        standin => "out=200; count=body; $controls");

    ok($answer->{truncated}, "an answer cut by $controls is cut");
    is($line->{end}, $end, '... and logged as that');

    if ($controls =~ /head/) {
        is($line->{cost_nusd}, $bill->{billed_nusd},
           '... usage that came before is charged');

    } else {
        is($line->{usage_source}, 'estimated', '... charged by what came');
        cmp_ok($line->{cost_nusd}, '<=', $bill->{billed_nusd},
               '... and no more');
        cmp_ok($line->{input_tokens}, '>', 0, '... but for its prompt');
    }
}

# the provider got the request, and nothing came back: it may bill (T37)

for my $dialect (sort keys %call) {
    my ($path, $body) = @{$call{$dialect}};
    my ($answer, $line, $bill) = call($path, $body,
                                      standin => 'hang=1; count=body');

    is_line($line, { usage_source => 'estimated', end => 'upstream_lost',
        status => 504, cost_nusd => $bill->{billed_nusd},
        output_tokens => 0 },
        "$dialect: a timeout before the header costs the prompt (T37)");
    like($answer->{body}, qr/^\{.*"error"/s, '... and the client gets JSON');

    for my $die ('accept', 'before') {
        ($answer, $line, $bill) = call($path, $body,
                                       standin => "die=$die; count=body");

        is_line($line, { usage_source => 'estimated', output_tokens => 0,
            end => 'upstream_lost', status => 502 }, "$dialect: as does a "
            . "provider that closes instead of answering, $die (T37)");
        cmp_ok($line->{cost_nusd}, '>', 0, '... which is not nothing');
    }
}

# a stream that falls silent

{
    my ($path, $body) = @{$call{chat}};
    my ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
        standin => 'out=200; count=body; wait_after=7');

    is_line($line, { usage_source => 'estimated', end => 'upstream_cut',
        cost_nusd => $bill->{billed_nusd}, output_tokens => 7 },
        'a stream that falls silent is paid to there');
    ok($answer->{truncated}, '... and the client sees that it was cut');
}

# nobody got the request: nothing to pay

{
    my ($answer, $line) = call('/nobody/v1/chat/completions', $chat,
                               billed => 0);

    is_line($line, { usage_source => 'none', end => 'not_sent',
        status => 502, cost_nusd => 0 },
        'a provider that refuses the connection costs nothing (T37)');

    ($answer, $line) = call('/next/v1/chat/completions', $chat,
                            standin => 'prompt=100; out=20');

    is_line($line, { usage_source => 'provider', end => 'complete',
        status => 200, cost_nusd => 450_000 },
        'and where the next peer answers there is one charge (T37)');
}

# errors release the hold and reach the client

for my $status (301, 400, 401, 403, 404, 413, 429, 500, 502, 503, 529) {
    for my $dialect (sort keys %call) {
        my ($path, $body) = @{$call{$dialect}};
        my ($answer, $line) = call($path, $body,
                                   standin => "status=$status", billed => 0);

        is_line($line, { usage_source => 'none', end => 'upstream_error',
            status => $status, cost_nusd => 0, output_tokens => 0,
            input_tokens => 0 }, "$dialect: $status costs nothing (T02)");
        like($answer->{body}, qr/stand-in: as asked/,
             '... and is the provider\'s own');
    }
}

{
    my ($answer, $line) = call('/intercepted/v1/chat/completions', $chat,
                               standin => 'status=500', billed => 0);

    is_line($line, { usage_source => 'none', end => 'upstream_error',
        cost_nusd => 0 }, 'an error page in its place changes nothing (T02)');
    is("$answer->{status} $answer->{body}", '503 {"page":1}',
       '... and reaches the client');

    ($answer, $line) = call(@{$call{chat}}, standin => 'status=204',
                            billed => 0);

    is_line($line, { usage_source => 'none', end => 'complete',
        cost_nusd => 0, status => 204 },
        'an answer without a body has no tokens');

    $answer = request('HEAD', '/v1/chat/completions', headers =>
                      { Authorization => 'Bearer k1' });
    $line = next_line();

    is_line($line, { usage_source => 'none', end => 'denied', status => 404,
        cost_nusd => 0, code => 'endpoint_not_allowed' },
        'HEAD is not served');
}

# errors inside a 200

for my $dialect (@generates) {
    my ($path, $body) = @{$call{$dialect}};
    my ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
        standin => 'out=200; count=body; error_event=0');

    is_line($line, { usage_source => 'none', end => 'error_event',
        status => 200, cost_nusd => 0, output_tokens => 0 },
        "$dialect: an error before all content costs nothing (T44)");

    ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
        standin => 'out=200; count=body; error_event=40');

    is_line($line, { usage_source => 'estimated', end => 'error_event',
        cost_nusd => $bill->{billed_nusd}, output_tokens => 40 },
        "$dialect: after 40 deltas it costs prompt and deltas (T44, T47)");
}

# no usage, odd usage, usage elsewhere

for my $dialect (sort keys %call) {
    my ($path, $body) = @{$call{$dialect}};

    for my $stream ($dialect eq 'embeddings' ? (0) : (0, 1)) {
        my $how = $stream ? 'stream' : 'answer';
        my %body = (%$body, $stream ? (stream => \1) : ());

        # Responses streams have theirs in the terminal event, always

        for my $usage ('none', 'bad') {
            my ($answer, $line) = call($path, \%body,
                standin => "out=20; usage=$usage", billed => 0);

            is_line($line, { usage_source => 'hold', end => 'complete',
                cost_nusd => $line->{hold_nusd}, status => 200,
                flags => $usage eq 'bad' ? 'usage_suspect' : '' },
                "$dialect: of a whole $how with usage=$usage the hold is "
                . 'charged (T08, T59)');
            cmp_ok($line->{cost_nusd}, '>', 0, '... which is not nothing');
        }

        my @ways = $stream ? ('no_done=1', 'crlf=1') : ('usage=head');

        push @ways, map { "usage=$_" } qw(first every in_content)
            if $stream && $dialect =~ /^(chat|completions)$/;
        push @ways, 'end=failed' if $dialect eq 'responses';
        push @ways, map { "delta=$_" } qw(out full real)
            if $stream && $dialect eq 'messages';

        for my $way (@ways) {
            my ($answer, $line, $bill) = call($path, \%body,
                standin => "prompt=100; out=20; $way");

            is_line($line, { usage_source => 'provider',
                end => $way eq 'end=failed' ? 'error_event' : 'complete',
                cost_nusd => $bill->{billed_nusd},
                input_tokens => 100, output_tokens => $bill->{output} },
                "$dialect: a $how with $way is charged in full (T11, T45)");
        }
    }
}

{
    my ($path, $body) = @{$call{responses}};

    for my $stream (0, 1) {
        my ($answer, $line) = call($path, { %$body, max_output_tokens => 20,
            $stream ? (stream => \1) : () },
            standin => 'prompt=100; out=50');

        is_line($line, { usage_source => 'provider', end => 'complete',
            cost_nusd => 450_000, output_tokens => 20 },
            'an answer that is incomplete is charged (T44)');
    }

    my ($answer, $line) = call('/v1/chat/completions',
        chat(stream => \1, max_tokens => 400),
        standin => 'prompt=100; out=100; usage=every');

    is_line($line, { usage_source => 'provider', output_tokens => 100,
        cost_nusd => 1_250_000 },
        'of a hundred counts the last one counts (T11)');
}

agree('the ledger is the sum of the usage log');
$nginx->stop();
done_testing();
