#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A zone that is full refuses new accounts and forgets no old one.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


need_module();
need_zone_store();

my $standin = start_standin();

my $chat = { model => 'm-std', max_tokens => 10,
             messages => [{ role => 'user', content => 'abcd' }] };

my $nginx = start_nginx(conf => llm_conf(zone => 'tiny 256k',
    limit => 'all key=$http_x_key usd=1000'));

is(call('first')->{status}, 200, 'a call is served');

my $spent = (account('first'))->{spent};

cmp_ok($spent, '>', 0, 'and charged');

my ($most, $refused, $answer) = (ledger()->{stat}{accounts_max});

cmp_ok($most, '>', 10, "the zone has room for $most accounts");

# one call of a key after the other, until one is refused

for my $i (1 .. $most + 50) {
    $answer = call("key-$i");

    if ($answer->{status} != 200) {
        $refused = $i;
        last;
    }
}

ok(defined $refused, 'then it is full');
is($answer->{status}, 503, 'and a new key is refused');
is($answer->{headers}{'x-llm-budget-code'}, 'store_unavailable', 'as it is');
is($answer->{headers}{'x-should-retry'}, 'true',
   'and the client may try again (T42)');
like($nginx->log_text(), qr/\[error\].*llm_budget: zone "tiny" is full/,
     'the log names the zone');

my $ledger = ledger();

is($ledger->{stat}{full}, 1, 'and so does the count');
is(scalar(@{$ledger->{accounts}}), $refused,
   'every key that was served has its account (T64)');
is((account('first'))->{spent}, $spent, 'the first one, too');
is(call('first')->{status}, 200, 'and is served on') or
    diag $nginx->log_tail();
cmp_ok((account('first'))->{spent}, '>', $spent, 'and charged');
is(call('never')->{status}, 503, 'the others wait');

balanced('nothing was lost');
$nginx->stop();


# holds are records, too: with all of them closed there is room again, since
# closed ones give way before anything is refused

{
    $standin->reset();
    $LLMBudget::MADE = 0;

    my $same = start_nginx(conf => llm_conf(zone => 'tiny 256k'));
    my $holds = ledger()->{stat}{holds_max};
    my $count = $holds < 3000 ? $holds + 20 : 0;
    my @bad;
    my $sock;

    SKIP: {
        skip('the zone has room for many holds', 1) unless $count;

        for my $i (1 .. $count) {
            my $answer = call('k', keep => 1, $sock ? (sock => $sock) : ());

            push @bad, $answer->{status} if $answer->{status} != 200;
            $sock = $answer->{sock};
        }

        is_deeply(\@bad, [],
                  "$count calls of one key, more than there are holds");
    }

    balanced('and all are settled');
    $same->stop();
}

done_testing();


sub call
{
    my ($key, @options) = @_;

    return post_json('/v1/chat/completions', $chat,
                     headers => { Authorization => 'Bearer k1',
                                  'X-Key' => $key },
                     standin => 'out=1', @options);
}


sub account
{
    my ($key) = @_;
    my $found;

    wait_for(sub {
        my $ledger = ledger();
        ($found) = grep { $_->{key} eq $key } @{$ledger->{accounts}};
        return $ledger->{stat}{pending} == 0;
    });

    return $found;
}
