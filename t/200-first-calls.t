#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors
#
# The shortest way through the whole: every metered endpoint, plain and
# streamed, is judged, held, forwarded, metered, settled and logged.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use LLMBudget;

need_module();

start_standin();

my $nginx = start_nginx(workers => 2, conf => llm_conf());
my $messages = [ { role => 'user', content => 'abcd' x 10 } ];

for my $case (
    [ '/v1/chat/completions',
      { model => 'm-std', messages => $messages } ],
    [ '/v1/chat/completions',
      { model => 'm-std', messages => $messages, stream => \1 } ],
    [ '/v1/chat/completions',
      { model => 'm-std', messages => $messages, stream => \1,
        stream_options => { include_usage => \1 } } ],
    [ '/v1/completions',
      { model => 'm-std', prompt => 'hello world', max_tokens => 20 } ],
    [ '/v1/completions',
      { model => 'm-std', prompt => 'hello world', max_tokens => 20,
        stream => \1 } ],
    [ '/v1/responses',
      { model => 'm-std', input => 'hello world', max_output_tokens => 20 } ],
    [ '/v1/responses',
      { model => 'm-std', input => 'hello world', stream => \1 } ],
    [ '/v1/embeddings',
      { model => 'm-embed', input => 'hello world' } ],
    [ '/v1/messages',
      { model => 'c-std', messages => $messages, max_tokens => 20 } ],
    [ '/v1/messages',
      { model => 'c-std', messages => $messages, max_tokens => 20,
        stream => \1 } ])
{
    my ($path, $body) = @$case;
    my $answer = post_json($path, $body,
                           headers => { Authorization => 'Bearer k1' });

    is($answer->{status}, 200,
       $path . ($body->{stream} ? ', streamed,' : '') . ' is served');

    my ($line) = reverse @{wait_for(sub {
        my @lines = usage_lines();
        return @lines == $LLMBudget::MADE && $lines[-1]{endpoint} eq $path
               && \@lines;
    })};

    is($line->{usage_source}, 'provider', 'by the usage of its answer');
    cmp_ok($line->{cost_nusd}, '>', 0, 'it is charged');
}

balanced('after all of them');

$nginx->stop();

done_testing();
