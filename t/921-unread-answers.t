#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What the provider may bill although nobody read its answer: an attempt
# before an error, a background update of a cache, and context that is not in
# the body of a call that was cut short (T03, T37).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use POSIX ();
use Test::More;

use LLMBudget;
use Metered;


need_module();

my $standin = start_standin();
my $searcher = free_port();
my $nginx = start_nginx(conf => llm_conf(
    http => <<'END',
    proxy_cache_path %%DIR%%/cache keys_zone=answers:1m;

    upstream dropping {
        server 127.0.0.1:%%PORT4%% max_fails=0;
        server 127.0.0.1:%%STANDIN%% max_fails=0 backup;
    }

    server {
        listen 127.0.0.1:%%PORT4%%;
        client_max_body_size 0;
        return 444;
    }
END
    server => <<'END',
        llm_budget_limit all key=all usd=1000 per=lifetime;
END
    locations => <<"SEARCH" . <<'END',
        location /searching/ {
            llm_budget on;
            proxy_pass http://127.0.0.1:$searcher;
        }
SEARCH
        location /dropping/ {
            llm_budget on;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream error non_idempotent;
            proxy_pass http://dropping;
        }

        location /cached/ {
            llm_budget on;
            proxy_cache answers;
            proxy_cache_methods POST;
            proxy_cache_key $request_body;
            proxy_cache_valid 200 1s;
            proxy_cache_use_stale updating timeout error;
            proxy_cache_background_update on;
            proxy_read_timeout 500ms;
            proxy_pass http://standin;
        }
END
));

my %chat = (%{chat()}, max_tokens => 50);
my %headers = (headers => { Authorization => 'Bearer k1' });


# the client gets the second server's refusal

{
    my $free = answer('/v1', 'status=429');
    my $paid = answer('/dropping', 'status=429');

    is($free->{cost_nusd}, 0, 'an error is free');
    is($free->{usage_source}, 'none', '... and not guessed');
    is($paid->{status}, 429, 'an error after an attempt without an answer');
    cmp_ok($paid->{cost_nusd}, '>', 0, 'T37: ... may cost its prompt');
    is($paid->{usage_source}, 'estimated', '... which is guessed');

    my $two = answer('/dropping', 'out=5');
    my $one = answer('/v1', 'out=5');

    is($two->{cost_nusd} - $one->{cost_nusd}, $paid->{cost_nusd},
       '... once, as before an answer');
}


# the cache

{
    my $seen = sub { return scalar(@{$standin->stats()->{calls}}); };
    my $before = $seen->();
    my $first = answer('/cached', 'out=5');
    my $hit = answer('/cached', 'out=5');

    is($seen->() - $before, 1, 'a cached answer is not asked for again');
    is($hit->{cost_nusd}, 0, '... and is free');

    sleep_ms(2100);

    my $stale = answer('/cached', 'out=5');

    ok(wait_for(sub { $seen->() - $before == 2 }),
       'a stale one is, in the background');
    is($stale->{end}, 'cache_hit', '... while the client gets the old');
    cmp_ok($stale->{cost_nusd}, '>=', $first->{cost_nusd},
           'T03: nobody reads the new answer: the hold is charged');
    is($stale->{usage_source}, 'hold', '... and called so');

    sleep_ms(2100);
}


# a conversation that the provider has stored

{
    my %call = (model => 'm-std', input => 'abcd', stream => \1,
                max_output_tokens => 50);
    my %abort = (standin => 'out=40; wait_after=5',
                 abort_on => qr/"delta":"abc /, billed => 0);

    my (undef, $short) = call('/v1/responses', \%call, %abort);
    my (undef, $long) = call('/v1/responses',
        { %call, previous_response_id => 'resp_1' }, %abort);

    cmp_ok($short->{input_tokens}, '<', 100, 'a prompt is guessed by the body');
    is($long->{end}, 'aborted', 'a call with stored context is cut short');
    is($long->{input_tokens}, 1000000,
       'T03: ... and charged for all that the model could have read');
}

# searches that were done before the client left

{
    my $item = '{"type":"response.output_item.done","item":'
               . '{"type":"web_search_call","status":"completed"}}';
    my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $searcher, Listen => 1, ReuseAddr => 1) or die "$!\n";
    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        my $peer = $sock->accept();

        sysread($peer, my $request, 65536);
        syswrite($peer, "HTTP/1.1 200 OK\r\n"
            . "Content-Type: text/event-stream\r\n\r\n"
            . "data: $item\n\ndata: $item\n\n"
            . "data: {\"type\":\"response.output_text.delta\","
            . "\"delta\":\"abc \"}\n\n");
        sleep(1) while sysread($peer, $request, 65536);
        POSIX::_exit(0);
    }

    my (undef, $line) = call('/searching/v1/responses',
        { model => 'm-search', input => 'abcd', stream => \1,
          max_output_tokens => 50, tools => [{ type => 'web_search' }] },
        abort_on => qr/"delta":"abc /, billed => 0);

    waitpid($pid, 0);

    is($line->{end}, 'aborted', 'a call with searches is cut short');
    is($line->{web_searches}, 2, 'T18: ... and those that were done count');
}

{
    my $got = balances();

    is($got->{pending}, 0, 'no hold is pending');
    is($got->{spent}, $got->{log}, 'the ledger is what the usage log says');
}

$nginx->stop();
done_testing();


sub answer
{
    my ($place, $standin) = @_;

    my (undef, $line) = call("$place/v1/chat/completions", \%chat,
                             %headers, standin => $standin, billed => 0);

    return $line;
}
