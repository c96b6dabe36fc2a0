#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A free endpoint behind a metered one is neither: a proxy_pass with an URI of
# its own would send the body to the metered one (T05, T33).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;
use Metered;


need_module();

my $standin = start_standin();
my $nginx = start_nginx(conf => llm_conf(
    path => '/v1/chat/completions',
    location => '            set $where standin;',
    pass => 'http://$where/v1/chat/completions'));

for my $more (qw(messages/count_tokens responses/input_tokens embeddings
                 messages))
{
    my $answer = post_json("/v1/chat/completions/v1/$more",
                           { %{chat()}, max_tokens => 5 },
                           headers => { Authorization => 'Bearer k1' });

    is($answer->{status}, 404, "T05: .../v1/$more behind a chat is refused");
}

is(post_json('/v1/chat/completions', { %{chat()}, max_tokens => 5 },
             headers => { Authorization => 'Bearer k1' })->{status}, 200,
   'the chat itself is served');

balanced('nothing was billed that was not charged');

$nginx->stop();
done_testing();
