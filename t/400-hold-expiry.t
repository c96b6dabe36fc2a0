#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A hold that nobody closes is closed by its deadline, and only then; every
# other end gives back what was held (T02, T40).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $chat = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' }] };

my $limits = <<'END';
            llm_budget_limit all   key=all usd=1000;
            llm_budget_limit calls key=all requests=1000;
            llm_budget_limit slots key=all concurrency=1000;
            llm_budget_limit words key=all tokens=1000000;
END


for my $policy ('charge', 'release') {

    $standin->reset();
    local $LLMBudget::MADE = 0;

    my $nginx = start_nginx(workers => 2, conf => llm_conf(
        limit => '',
        location => "$limits            llm_budget_hold_timeout 1s;",
        http => "    llm_budget_expire $policy;",
        locations => <<"END",
        location /hang/ {
            llm_budget on;
$limits
            llm_budget_hold_timeout 3s;
            proxy_pass http://standin;
        }
END
        proxy => '            proxy_read_timeout 30s;'));

    # a stream longer than the timeout, whose hold is kept by its deltas
    # although the ledger's page, which sweeps, is read all the time

    my @long = parallel(2, sub {
        my ($i) = @_;

        return call({ %$chat, stream => \1 }, 'out=12; gap=200') if $i == 0;

        my $seen = 0;

        wait_for(sub {
            my $pending = ledger()->{stat}{pending};
            $seen ||= $pending;
            return $seen && !$pending;
        }, 10);

        return { expired => expired() };
    });

    is($long[0]{status}, 200, "$policy: a stream of more than two seconds");
    is($long[1]{expired}, 0, 'keeps its hold beyond the timeout (T02)');
    is(last_line()->{usage_source}, 'provider', 'and is charged by its usage');
    balanced("$policy: after a long stream");

    my $before = $standin->stats()->{billed_nusd};

    # an answer that comes after the deadline; the ledger's page sweeps

    my @late = parallel(2, sub {
        my ($i) = @_;

        return call($chat, 'delay=2600; out=9') if $i == 0;

        my $held;

        wait_for(sub { $held ||= held('all'); return expired() == 1; });

        return { held => $held, left => held('all'), gone => expired(),
                 slots => held('slots') };
    });

    my ($all) = accounts('all');
    my $line = last_line();

    cmp_ok($late[1]{held}, '>', 0, 'a call that hangs holds its money');
    is($late[1]{gone}, 1, 'until its deadline (T02)');
    is($late[1]{left}, 0, 'when the hold is gone');
    is($late[1]{slots}, 0, 'of every unit');
    is($late[0]{status}, 200, 'its answer came later');
    is($all->{spent} - $before, $policy eq 'charge' ? $late[1]{held} : 0,
       'nothing more was charged than by expiry (T23)');

    # Redis answers after the line is written: the log tells

    if (($ENV{LLMB_STORE} // 'zone') eq 'zone') {
        is($line->{cost_nusd}, $all->{spent} - $before,
           "the line says what expiry did: $policy");
        ok((grep { $_ eq 'hold_expired' } @{$line->{flags} // []}),
           'flagged');
    }

    is((accounts('calls'))[0]{spent}, $policy eq 'charge' ? 2 : 1,
       "its request is a request: $policy");
    is((accounts('words'))[0]{spent}
       - ($standin->stats()->{calls}[0]{input} + 12),
       $policy eq 'charge' ? tokens($late[1]{held}) : 0,
       'its tokens are those held, or none');
    my $told = qr/\[warn\].*(the hold expired before|closed before its cost)/;

    wait_for(sub { return $nginx->log_text() =~ $told; });
    like($nginx->log_text(), $told, 'the log tells');

    # a worker that dies leaves its holds behind, and no more

    my $spent = (accounts('all'))[0]{spent};
    my @clients = hanging();
    my $orphaned = held('all');

    cmp_ok($orphaned, '>', 0, "$policy: calls are in flight");

    kill('KILL', $nginx->workers());

    ok(wait_for(sub { my $l = ledger(); $l && $l->{stat}{pending} == 0 }, 8),
       'what dead workers held is closed by expiry (T40)');
    is((accounts('all'))[0]{spent} - $spent,
       $policy eq 'charge' ? $orphaned : 0, "with a $policy");
    is(held('all') + held('calls') + held('slots') + held('words'), 0,
       'and nothing is held');

    waitpid($_, 0) for @clients;

    is(call($chat)->{status}, 200, 'other workers serve on');
    ok(wait_for(sub { ledger()->{stat}{pending} == 0 }), 'and settle');

    $nginx->stop(allow => qr/exited on signal 9/);
}


# --------------------------------- everything else gives its hold back

{
    $standin->reset();
    $LLMBudget::MADE = 0;

    my $nginx = start_nginx(workers => 2, conf => llm_conf(
        limit => ['all key=all usd=1000', 'calls key=all requests=1000'],
        locations => <<"END"));
        location /dead/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000;
            llm_budget_limit calls key=all requests=1000;
            proxy_pass http://127.0.0.1:@{[LLMBudget::free_port()]};
        }

        location /slow/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000;
            llm_budget_limit calls key=all requests=1000;
            proxy_connect_timeout 1s;
            proxy_read_timeout 300ms;
            proxy_pass http://standin;
        }

        location /tls/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000;
            llm_budget_limit calls key=all requests=1000;
            proxy_connect_timeout 300ms;
            proxy_pass https://standin;
        }
END

    for my $case (
        ['an upstream that refuses the connection', '/dead/v1', '', 502],
        ['an upstream that speaks no TLS', '/tls/v1', '', 504],
        ['a 400 of the provider', '/v1', 'status=400', 400],
        ['a 401 of the provider', '/v1', 'status=401', 401],
        ['a 429 of the provider', '/v1', 'status=429', 429],
        ['a 500 of the provider', '/v1', 'status=500', 500],
        ['a 529 of the provider', '/v1', 'status=529', 529])
    {
        my ($what, $path, $controls, $status) = @$case;
        my $answer = call($chat, $controls, $path);

        is($answer->{status}, $status, "$what is passed on");
        ok(wait_for(sub { ledger()->{stat}{pending} == 0 }, 2),
           'and leaves no hold (T02)');
        is(last_line()->{cost_nusd}, 0, 'and no charge');
    }

    is(spent(ledger(), 'calls', 'requests'), 5,
       'a call that failed is a call, one that was not made is none');
    is($standin->stats()->{billed_nusd}, 0, 'the provider billed nothing');
    is(spent(ledger()), 0, 'nor did the ledger');

    # sent, and not answered: the provider may bill the prompt (T37)

    is(call($chat, 'delay=900', '/slow/v1')->{status}, 504,
       'a timeout before the answer is passed on');
    ok(wait_for(sub { ledger()->{stat}{pending} == 0 }, 2),
       'and leaves no hold (T02)');
    is(last_line()->{usage_source}, 'estimated', 'but an estimate (T37)');
    is(spent(ledger(), 'calls', 'requests'), 6, 'and is a call');
    is(spent(ledger()), last_line()->{cost_nusd}, 'as the line says');

    $nginx->stop();
}

done_testing();


sub call
{
    my ($body, $controls, $path) = @_;

    $path //= '/v1';

    return post_json("$path/chat/completions", $body,
                     headers => { Authorization => 'Bearer k1' },
                     standin => $controls);
}


# Three calls that are never answered; the pids of their clients.

sub hanging
{
    my @pids;

    for my $i (1 .. 3) {
        my $pid = fork() // die "fork: $!\n";

        if ($pid == 0) {
            call($chat, 'hang=1', '/hang/v1');
            POSIX::_exit(0);
        }

        push @pids, $pid;
    }

    wait_for(sub { ledger()->{stat}{pending} == 3 });

    return @pids;
}


sub accounts
{
    my ($name) = @_;

    return grep { $_->{budget} eq $name } @{(ledger() // {})->{accounts}};
}


sub held
{
    my $sum = 0;

    $sum += $_->{held} for accounts(@_);

    return $sum;
}


sub expired
{
    return ledger()->{stat}{expired};
}


# The tokens of a hold of 100 tokens of output.

sub tokens
{
    my ($nusd) = @_;

    return ($nusd - 100 * 10000) / 2500 + 100;
}


sub last_line
{
    my @lines;

    wait_for(sub {
        @lines = usage_lines();
        return @lines >= $LLMBudget::MADE;
    });

    return $lines[-1];
}
