#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A refusal says what stands in the way of the smallest answer that would
# have been let in, not of the full one: a request that a clamp fits into an
# unused budget is not too large for it.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();


sub location
{
    my ($name, $limit, $more) = @_;

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit $name key=all $limit;
            $more
            proxy_pass http://standin;
        }
END
}


# m-std: 2500 nano-USD a token of input, 10000 of output

my $limit = 'usd=0.001 per=year';

my $nginx = start_nginx(conf => llm_conf(
    limit => 'all key=all usd=1000 per=lifetime',
    locations => location('clamped', $limit, '')
        . location('unclamped', $limit, 'llm_budget_clamp off;')
        . location('busy', $limit, '')
        . location('tiny', 'usd=0.0001 per=year', '')));


sub call
{
    my ($name, %opt) = @_;

    my $answer = post_json("/$name/v1/chat/completions",
        { model => 'm-std', messages => [{ role => 'user',
                                           content => 'abcd' }],
          max_tokens => $opt{max_tokens} // 1000 },
        headers => { Authorization => 'Bearer k1' },
        standin => $opt{standin} // 'out=1000', %opt);

    $answer->{error} = (eval { JSON::PP->new->utf8->decode($answer->{body}) }
                        // {})->{error};

    return $answer;
}


is(call('clamped')->{status}, 200, 'a call of ten budgets is clamped');

my $answer = call('clamped');

is($answer->{status}, 429, 'the next one is refused');
is($answer->{error}{code}, 'budget_exceeded',
   'since the budget is spent, not since the call is too large');
like($answer->{error}{message}, qr/has too little left for this request until \d{4}-/,
     'and says until when');
cmp_ok($answer->{headers}{'retry-after'} // 0, '>', 0,
       'so does the header');
is($answer->{error}{metadata}{requested_usd}, '0.010327500',
   'what was requested is told as it came');


$answer = call('unclamped');

is($answer->{error}{code}, 'request_exceeds_budget',
   'without a clamp it is too large');
is($answer->{headers}{'retry-after'}, undef, 'at any time');


$answer = call('tiny');

is($answer->{error}{code}, 'request_exceeds_budget',
   'so it is where the smallest clamp does not fit');


# while another call holds the budget, the clamped one has only to wait

my $raw = request_text('POST', '/busy/v1/chat/completions',
    headers => { Authorization => 'Bearer k1' }, keep => 1,
    body => { model => 'm-std', max_tokens => 60, messages =>
              [{ role => 'user', content => 'abcd' }] },
    standin => 'hang=1');
my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                 PeerPort => $nginx->{port});

print $sock $raw;
$sock->flush();

ok(wait_for(sub { (ledger() // {})->{stat}{pending} }), 'a call is held');

$answer = call('busy');

is($answer->{error}{code}, 'budget_hold_contention',
   'a call that a hold keeps out is told to wait');
cmp_ok($answer->{headers}{'retry-after'} // 0, '>', 0, 'for some seconds');
is($answer->{headers}{'x-should-retry'}, undef, 'and to try again');

close($sock);

ok(wait_for(sub { !(ledger() // { stat => { pending => 1 } })
                  ->{stat}{pending} }), 'the held call ends');


$nginx->stop();

done_testing();
