#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What a location inherits from its server, what it says itself, and that the
# one replaces the other whole: as nginx does, lists do not add up.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();
my $nginx = start_nginx(conf => <<'END');

http {
    llm_budget_zone llm 8m;
    llm_budget_prices %%PRICES%%;

    llm_budget_provider one { pass http://standin; api_key sk-one; }
    llm_budget_provider two { pass http://standin/base; api_key sk-two; }

    log_format llm_usage escape=none '$llm_budget_usage';
    access_log %%DIR%%/usage.log llm_usage if=$llm_budget_usage;

    upstream standin { server 127.0.0.1:%%STANDIN%% max_fails=0; }

    llm_budget_show_amounts off;

    server {
        listen 127.0.0.1:%%PORT%%;

        llm_budget on;
        llm_budget_key $arg_user;
        llm_budget_limit all key=all usd=1000;
        llm_budget_limit tiny key=tiny requests=0;
        llm_budget_pass one;
        llm_budget_status 402;
        llm_budget_max_body 2k;
        llm_budget_unknown_model price_as=m-std;
        llm_budget_reserve default output=100;
        llm_budget_endpoint POST /v1/thing metered chat;
        llm_budget_degrade at=0 m-std=m-mini;
        llm_budget_inject_usage off;
        llm_budget_clamp off;

        location /plain/ {
            proxy_pass $llm_budget_pass;

            location /plain/nested/ {
                proxy_pass $llm_budget_pass;
            }
        }

        location /off/ {
            llm_budget off;
            proxy_pass http://standin;
        }

        location /limit/ {
            llm_budget_limit all key=all usd=1000;
            proxy_pass $llm_budget_pass;
        }

        location /own/ {
            llm_budget_key $arg_other;
            llm_budget_limit all key=all usd=1000;
            llm_budget_pass two;
            llm_budget_max_body 1m;
            llm_budget_unknown_model deny;
            llm_budget_reserve bound;
            llm_budget_endpoint POST /v1/else metered chat;
            llm_budget_degrade at=0 c-std=m-mini;
            llm_budget_inject_usage on;
            llm_budget_show_amounts on;
            proxy_pass $llm_budget_pass;
        }

        location /llm/api/ {
            llm_budget off;
            llm_budget_api;
        }
    }
}
END

my $own = '/own/v1/chat/completions?other=o';
my $limit = '/limit/v1/chat/completions?user=u';

# what a server says holds in its locations, and in theirs

for my $path ('/plain', '/plain/nested') {
    my $answer = chat("$path/v1/chat/completions?user=u");

    is($answer->{status}, 402, "llm_budget_status is inherited by $path");
    like($answer->{body}, qr/"scope":"tiny"/, 'and the limits');
    unlike($answer->{body}, qr/"limit":/,
           'and llm_budget_show_amounts, from http');
    is(chat("$path/v1/chat/completions?other=o")->{status}, 401,
       'and llm_budget_key');
}

is(chat('/off/v1/chat/completions')->{status}, 200,
   'llm_budget off ends it');
is($standin->last_request()->{header}{authorization}, undef,
   'with nothing done to the request');

# a list of its own replaces the server's

my $answer = chat($limit);

is($answer->{status}, 200, 'limits of a location replace those of the server');
is($answer->{headers}{'x-llm-budget-model'}, 'm-mini',
   'the ladder is inherited');
is($answer->{headers}{'x-llm-budget-remaining-usd'}, undef,
   'amounts are not shown');
is(seen()->{authorization}, 'Bearer sk-one', 'the provider is inherited');
is(chat($limit, model => 'm-none')->{status}, 200,
   'llm_budget_unknown_model is inherited');
is(chat('/limit/v1/thing?user=u')->{status}, 404,
   'the stand-in has no such path, but it was passed on');
is((usage_lines())[-1]{end}, 'upstream_error', 'as llm_budget_endpoint of the '
                                               . 'server says');
is(chat($limit, pad => 3000)->{status}, 413, 'llm_budget_max_body is '
                                             . 'inherited');
is(line($limit)->{hold_nusd}, 10 * 150 + 100 * 600,
   'llm_budget_reserve is inherited');

chat($limit, stream => 1);
ok(!exists body()->{stream_options}, 'llm_budget_inject_usage is inherited');

# what a location says itself

is(chat('/own/v1/chat/completions?user=u')->{status}, 401,
   'a location has its own llm_budget_key');

$answer = chat($own);

is($answer->{status}, 200, 'which is looked at');
is($answer->{headers}{'x-llm-budget-model'}, 'm-std', 'its own ladder');
like($answer->{headers}{'x-llm-budget-remaining-usd'}, qr/^\d+\.\d+$/,
     'its own llm_budget_show_amounts');
is(seen()->{authorization}, 'Bearer sk-two', 'its own provider');
is($standin->last_request()->{target},
   '/base/chat/completions?other=o', 'with its base path');
is(chat($own, model => 'm-none')->{status}, 400,
   'its own llm_budget_unknown_model');
is(chat('/own/v1/thing?other=o')->{status}, 404, 'its own endpoints');
is((usage_lines())[-1]{code}, 'endpoint_not_allowed', 'and no other');
is(chat($own, pad => 3000)->{status}, 200, 'its own llm_budget_max_body');
cmp_ok(line($own)->{hold_nusd}, '>', 16384 * 10_000,
       'its own llm_budget_reserve, with no parameter of the server\'s');

chat($own, stream => 1);
ok(body()->{stream_options}{include_usage}, 'its own llm_budget_inject_usage');

# one call was not metered, so that the bill is left out here

my $got = balances(lines => $LLMBudget::MADE - 1);

is("$got->{pending} $got->{held}", '0 0', 'no hold is pending');
is($got->{log}, $got->{spent}, 'the usage log is what the ledger has');

$nginx->stop();
done_testing();


sub chat {
    my ($path, %opt) = @_;

    my $body = { model => $opt{model} // 'm-std',
                 messages => [ { role => 'user',
                                 content => 'a' x (4 + ($opt{pad} // 0)) } ] };

    $body->{stream} = \1 if $opt{stream};

    my $n = usage_lines();
    my $answer = post_json($path, $body);

    wait_for(sub { my @lines = usage_lines(); @lines > $n })
        if $path !~ m{^/off/};

    return $answer;
}


sub line {
    my ($path) = @_;

    chat($path);

    return (usage_lines())[-1];
}


sub seen {
    return $standin->last_request()->{header};
}


sub body {
    return JSON::PP->new->utf8->decode($standin->last_request()->{body});
}
