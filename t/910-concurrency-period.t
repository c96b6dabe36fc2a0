#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A limit of calls at a time beside one with a period: its account is not the
# period's, or each turn of the minute would let in as many again.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();
start_standin();

my $nginx = start_nginx(conf => llm_conf(
    limit => 'all key=all usd=1000 concurrency=5 requests=900 per=minute'));

is(post_json('/v1/chat/completions',
             { model => 'm-std', messages => [ { role => 'user',
                                                 content => 'hello' } ] },
             headers => { Authorization => 'Bearer k' })->{status}, 200,
   'a call is served');

my %period = map { $_->{unit} => $_->{period_id} } @{ledger()->{accounts}};

# in Redis an account with nothing on it is not kept

is($period{concurrency} // 'lifetime', 'lifetime',
   'calls in flight have one account');
like($period{requests}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d$/,
     'calls have one for each minute');
is($period{usd}, $period{requests}, 'and so have dollars');

balanced('the books agree');
$nginx->stop();
done_testing();
