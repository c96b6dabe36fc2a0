#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A second attempt, at a replica or at another provider, gets the right body
# and the right credential, and is charged once (T36, T37, T50, T51).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();
my $second = 'proxy_pass $llm_budget_pass;';

my $nginx = start_nginx(conf => llm_conf(
    http => <<'END',
    log_format attempt '$http_authorization $request_length';

    upstream replicas {
        server 127.0.0.1:%%PORT3%% max_fails=0;
        server 127.0.0.1:%%STANDIN%% max_fails=0 backup;
    }

    upstream closing {
        server 127.0.0.1:%%PORT4%% max_fails=0;
        server 127.0.0.1:%%STANDIN%% max_fails=0 backup;
    }

    upstream dead {
        server 127.0.0.1:%%PORT5%% max_fails=0;
        server 127.0.0.1:%%STANDIN%% max_fails=0 backup;
    }

    llm_budget_provider replicas { pass http://replicas; api_key first-1; }
    llm_budget_provider failing {
        pass     http://127.0.0.1:%%PORT3%%;
        api_key  first-1;
    }
    llm_budget_provider dropping {
        pass     http://127.0.0.1:%%PORT4%%;
        api_key  first-1;
    }
    llm_budget_provider absent {
        pass     http://127.0.0.1:%%PORT5%%;
        api_key  first-1;
    }
    llm_budget_provider second { pass http://standin/v1; api_key second-2; }

    server {
        listen 127.0.0.1:%%PORT3%%;
        access_log %%DIR%%/logs/first.log attempt;
        client_max_body_size 0;
        location / {
            proxy_pass http://127.0.0.1:%%PORT6%%;
            proxy_pass_request_headers off;
        }
    }

    server {
        listen 127.0.0.1:%%PORT4%%;
        client_max_body_size 0;
        return 444;
    }

    server {
        listen 127.0.0.1:%%PORT6%%;
        client_max_body_size 0;
        return 500;
    }
END
    server => <<'END',
        client_body_buffer_size 4k;
        llm_budget_limit all key=all usd=1000 per=lifetime;
        llm_budget_limit calls key=all requests=100000 per=lifetime;
END
    locations => join('',
        location('replicas', 'llm_budget_pass replicas;', $second),
        location('mini', 'llm_budget_pass replicas;'
                 . ' llm_budget_degrade at=0% m-std=m-mini'
                 . ' drop=reasoning_effort;', $second),
        location('closing', '', 'proxy_pass http://closing;'),
        location('dead', '', 'proxy_pass http://dead;'),
        map({ my $name = $_;
            location("to-$name", "llm_budget_pass $name;", <<'END')
            proxy_intercept_errors on;
            proxy_next_upstream off;
            error_page 500 502 503 = @fallback;
            proxy_pass $llm_budget_pass;
END
            . location("cheap-$name", "llm_budget_pass $name;"
                . ' llm_budget_degrade at=0% m-std=m-mini'
                . ' drop=reasoning_effort;', <<'END')
            proxy_intercept_errors on;
            proxy_next_upstream off;
            error_page 500 502 503 = @fallback;
            proxy_pass $llm_budget_pass;
END
        } qw(failing dropping absent)),
        location('hops', 'llm_budget_pass absent;', <<'END'),
            proxy_next_upstream off;
            proxy_intercept_errors on;
            recursive_error_pages on;
            error_page 500 502 = @hop;
            proxy_pass $llm_budget_pass;
END
        <<'END')));
        location @hop {
            llm_budget on;
            llm_budget_pass failing;
            proxy_intercept_errors on;
            recursive_error_pages on;
            error_page 500 502 = @fallback;
            proxy_pass $llm_budget_pass;
        }

        location @fallback {
            llm_budget on;
            llm_budget_limit other key=all usd=0 per=lifetime;
            llm_budget_pass second;
            proxy_pass $llm_budget_pass;
        }

        location /plain/ {
            llm_budget on;
            llm_budget_pass absent;
            proxy_next_upstream off;
            error_page 502 = @plain;
            proxy_pass $llm_budget_pass;
        }

        location @plain {
            proxy_pass http://standin;
        }
END

my $chat = '/v1/chat/completions';
my ($billed, $calls) = (0, 0);  # before the stand-in was reset
my ($twice, $lost) = (0, 0);    # calls that a first server took and dropped
my %headers = (Authorization => 'Bearer client-9');


# another server of the same provider

for my $place (qw(replicas mini closing dead)) {
    for my $size (0, 3800, 50_000) {
        for my $opt ({}, { chunked => 1000 }) {
            for my $stream ('', ',"stream":true') {
                my $text = body($size, $stream);
                my $answer = post_json("/$place$chat", $text, %$opt,
                                       headers => \%headers);
                my $title = "/$place, $size bytes"
                            . (%$opt ? ' in chunks' : '')
                            . ($stream ? ', streamed' : '');

                is($answer->{status}, 200,
                   "T37: a second server answers: $title");
                right($place eq 'mini' ? cheap($text) : $text,
                      "T36: ... and had the right body", $place);
            }
        }
    }
}


# another provider

for my $place (qw(to-failing to-dropping to-absent cheap-failing
                  cheap-dropping cheap-absent hops))
{
    for my $size (0, 3800, 50_000) {
        for my $opt ({}, { chunked => 1000 }) {
            my $text = body($size, ',"stream":true');
            my $answer = post_json("/$place$chat?key=client-9", $text,
                                   %$opt, headers => \%headers);
            my $title = "/$place, $size bytes" . (%$opt ? ' in chunks' : '');

            is($answer->{status}, 200,
               "T51: a second provider answers: $title");

            my $seen = right($place =~ /cheap/ ? cheap($text) : $text,
                             "T36: ... and had the right body", $place);

            is($seen->{header}{authorization}, 'Bearer second-2',
               'T50: ... its own credential');
            unlike(JSON::PP->new->encode([@$seen{qw(target headers)}]),
                   qr/first-1|client-9/, 'T50: ... and no other');
            is($seen->{target}, $chat, '... on its own path');
        }
    }
}

{
    my $answer = post_json("/plain$chat", body(10, ''),
                           headers => \%headers);

    is($answer->{status}, 200, 'a fallback that is not metered answers');

    my $seen = last_seen();

    unlike(JSON::PP->new->encode($seen->{headers}), qr/first-1/,
           'T50: a location without llm_budget does not get the credential');
}

like(read_file("$nginx->{dir}/logs/first.log"), qr/^Bearer first-1 /,
     'the first provider had its own credential');
unlike(read_file("$nginx->{dir}/logs/first.log"), qr/second-2|client/,
       '... and no other');

{
    my $got = balances();

    is($got->{pending}, 0, 'no hold is pending');
    is($got->{lines}, $got->{wanted}, 'every request has its usage line');
    is($got->{spent}, $got->{log}, 'the ledger is what the usage log says');

    my @retried = grep { grep { $_ eq 'retried' } @{$_->{flags}} }
                  @{$got->{usage}};
    my ($cost, $once) = (0, $got->{log});

    $cost += $_->{cost_nusd} for @retried;

    is($once - $cost, $billed, 'T37: each call was charged once');
    is(scalar(@retried), $lost,
       'T37: but for those that a server took and never answered');
    cmp_ok($cost, '>', $twice, 'T37: ... of which it may bill the prompt');
    cmp_ok($cost, '<', 2 * $twice, 'T37: ... and no more');
    is(spent($got->{ledger}, 'calls', 'requests'), $calls,
       'T37: each call was counted once');
    is(spent($got->{ledger}, 'other'), 0,
       'T51: a fallback opens no hold of its own');
}

$nginx->stop();
done_testing();


sub location
{
    my ($name, $budget, $proxy) = @_;

    return <<"END";
        location /$name/ {
            llm_budget on;
            $budget
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream error http_500 non_idempotent;
            $proxy
        }
END
}


sub body
{
    my ($size, $more) = @_;

    return '{"messages":[{"role":"user","content":"abcd' . 'x' x $size
           . '"}],"reasoning_effort":"low","model":"m-std","max_tokens":9'
           . "$more}";
}


sub cheap
{
    my ($text) = @_;

    $text =~ s/"reasoning_effort":"low",//;
    $text =~ s/m-std/m-mini/;

    return $text;
}


# The last request that the stand-in saw.  It forgets them all, since reading
# many large ones takes long.

sub last_seen
{
    my ($dropped) = @_;

    my $stats = wait_for(sub {
        my $now = $standin->stats();
        return $now->{in_flight} == 0 ? $now : undef;
    });
    my $seen = $standin->last_request();

    if ($dropped) {
        $twice += $stats->{billed_nusd};
        $lost++;

    } else {
        $billed += $stats->{billed_nusd};
    }

    $calls += $stats->{requests};
    $standin->reset();

    return $seen;
}


# one test: the last request's body; a stream is asked for usage

sub right
{
    my ($want, $title, $place) = @_;

    my $seen = last_seen($place =~ /closing|dropping/);

    $want =~ s/^\{/{"stream_options":{"include_usage":true},/
        if $want =~ /"stream"/;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply({ body => $seen->{body},
                length => $seen->{header}{'content-length'} },
              { body => $want, length => length($want) }, $title);

    return $seen;
}
