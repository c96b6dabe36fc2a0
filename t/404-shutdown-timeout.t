#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A stream that worker_shutdown_timeout cuts is charged for what was sent, in
# the ledger the next workers have (T40).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(workers => 1, main => 'worker_shutdown_timeout 500ms;',
                        conf => llm_conf());

my @results = parallel(2, sub {
    my ($i) = @_;

    if ($i == 0) {
        my $answer = post_json('/v1/chat/completions',
            { model => 'm-std', max_tokens => 500, stream => \1,
              stream_options => { include_usage => \1 },
              messages => [{ role => 'user', content => 'abcd' }] },
            headers => { Authorization => 'Bearer k1' },
            standin => 'out=400; gap=50; count=body');

        return { status => $answer->{status}, body => $answer->{body} };
    }

    wait_for(sub { return ledger()->{stat}{pending} == 1; });
    $nginx->signal('HUP');

    return {};
});

is($results[0]{status}, 200, 'a stream runs when nginx reloads');
unlike($results[0]{body}, qr/\[DONE\]/, 'and is cut');

balanced('what was sent is charged');

my ($line) = usage_lines();

is($line->{usage_source}, 'estimated', 'as an estimate');
cmp_ok($line->{output_tokens}, '>', 0, 'with the output that passed');
is(spent(ledger()), $line->{cost_nusd}, 'in the ledger of the new worker');

$nginx->stop();
done_testing();
