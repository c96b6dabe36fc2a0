#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Limits: their units, keys, amounts and periods.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX qw(strftime);
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $body = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' x 10 }] };

my @periods = qw(minute hour day week month year lifetime);

my $nginx = start_nginx(conf => llm_conf(
    limit => '', server => '        llm_budget_clamp off;',
    http => <<'END',
    map $http_x_team $amount {
        default 5;
        poor    0.002;
        none    0;
        minus   -1;
        word    abc;
        empty   "";
        huge    10000000;
        most    9000000;
    }
END
    locations => join('', location('units', <<'END'),
            llm_budget_limit units key=all usd=1000 tokens=1000000
                                   input_tokens=900000 output_tokens=800000
                                   requests=700 concurrency=60;
END
        location('in', 'llm_budget_limit in key=all input_tokens=400;'),
        location('out', 'llm_budget_limit out key=all output_tokens=150;'),
        location('tokens', 'llm_budget_limit tokens key=all tokens=500;'),
        location('calls', 'llm_budget_limit calls key=all requests=2;'),
        location('flight', 'llm_budget_limit flight key=all concurrency=2;'),
        location('map', 'llm_budget_limit map key=$http_x_team'
                        . ' usd=$amount;'),
        location('keys', 'llm_budget_limit keys key=$http_x_team:$http_x_env'
                         . ' requests=1;'),
        location('skip', 'llm_budget_limit skip key=$http_x_team'
                         . ' requests=1;'),
        location('zero', 'llm_budget_limit zero key=all usd=0;'),
        location('own', 'llm_budget_limit own requests=1;'),
        location('bytes', 'llm_budget_limit bytes key=$http_x_team'
                          . ' requests=9;'),
        location('periods', join("\n", map {
            "llm_budget_limit $_ key=all requests=9 per=$_;" } @periods)),
        <<'END')));
        location /up/ {
            llm_budget on;
            llm_budget_limit up key=all requests=1;
            proxy_pass http://standin;

            location /up/inherits/ {
                proxy_pass http://standin;
            }

            location /up/replaces/ {
                llm_budget_limit below key=all requests=9;
                proxy_pass http://standin;
            }
        }
END


# ---------------------------------------------------------------- units

is(call('units')->{status}, 200, 'a limit may have every unit');

my $line = last_line();

is($line->{usage_source}, 'provider', 'and is charged what was used');

{
    my %spent = map { $_->{unit} => $_->{spent} }
                accounts('units', ledger_settled());

    # in Redis an account with nothing on it is not kept

    $spent{concurrency} //= 0;

    for my $account (grep { $_->{unit} eq 'usd' } accounts('units')) {
        my $text = sub { sprintf('%d.%09d', int($_[0] / 1e9), $_[0] % 1e9) };

        is_deeply([@$account{qw(limit_usd spent_usd held_usd)}],
                  [map { $text->($_) } @$account{qw(limit spent held)}],
                  'the API says dollars as text, too');
    }

    is_deeply(\%spent, { usd => $line->{cost_nusd}, requests => 1,
                         concurrency => 0,
                         tokens => $line->{total_tokens},
                         input_tokens => $line->{input_tokens},
                         output_tokens => $line->{output_tokens} },
              'in each unit its own count; concurrency comes back');
}

# 40 bytes, keys and the rest: more than 150 and less than 300 tokens are
# held for the prompt, 100 for the answer, and 10 + 16 are used

my $held = ($line->{hold_nusd} - 100 * 10000) / 2500;

cmp_ok($held, '<', 300, "input of $held tokens is held");

is_deeply([map { refused_as(call('in')) } 1 .. 3], ['', '', ''],
          'input tokens are returned after each call');
is(refused_as(call('in', { standin => 'prompt=400' })), '',
   'a prompt may turn out larger than what was held');
is(refused_as(call('in')), 'token_limited',
   'but then the input tokens are used up');
is(refused_as(call('out', { standin => 'out=100' })), '',
   'output tokens have room for one full answer');
is(refused_as(call('out')), 'token_limited', 'and not for another');
is(refused_as(call('tokens', { standin => 'out=100; prompt=300' })), '',
   'tokens have room for one call');
is(refused_as(call('tokens')), 'token_limited', 'and not for another');
is_deeply([map { refused_as(call('calls')) } 1 .. 3],
          ['', '', 'rate_limited'], 'requests are counted');

{
    my @flight = parallel(2, sub {
        my ($i) = @_;

        if ($i == 1) {
            wait_for(sub {
                my ($account) = grep { $_->{held} == 1 } accounts('flight');
                return $account;
            });
        }

        return { code => refused_as(call('flight',
            { standin => $i == 0 ? 'delay=700' : '' })) };
    });

    is_deeply([map { $_->{code} } @flight], ['', ''],
              'two calls at once are within a concurrency of two');

    my @three = parallel(4, sub {
        my ($i) = @_;

        if ($i < 2) {
            return { code => refused_as(call('flight',
                                             { standin => 'delay=2000' })) };
        }

        wait_for(sub {
            my ($account) = accounts('flight');
            return $account && $account->{held} == 2;
        });

        return { code => refused_as(call('flight')) };
    });

    is_deeply([map { $_->{code} } @three],
              ['', '', 'concurrency_limited', 'concurrency_limited'],
              'but not three');
}

is(refused_as(call('flight')), '', 'the places come back (T02)');


# ----------------------------------------------------- amounts, keys

is(refused_as(call('map', { team => 'rich' })), '',
   'an amount may come from a map');
is(refused_as(call('map', { team => 'poor' })), '',
   'and be another for another key');
is(refused_as(call('map', { team => 'poor', standin => 'prompt=500' })), '',
   'a second call of the poor one is let in');
is(refused_as(call('map', { team => 'poor' })), 'budget_exceeded',
   'and the third is not');
is(refused_as(call('map', { team => 'rich' })), '',
   'which is nothing to the rich one');
is(refused_as(call('map', { team => 'most' })), '',
   'nine million dollars are a limit (T53)');

for my $team (qw(minus word empty huge)) {
    my $answer = call('map', { team => $team });

    is($answer->{status}, 503, "the amount of \"$team\" refuses (T30)");
    is(refused_as($answer), 'limit_invalid', 'and says why');
    is($answer->{headers}{'x-should-retry'}, 'false',
       'and not to try again: a configuration does not mend itself (T42)');
}

like($nginx->log_text(),
     qr/\[error\].*llm_budget: limit "map" has an invalid usd amount "abc"/,
     'the log names the limit');

is(refused_as(call('map', { team => 'none' })), 'budget_exceeded',
   'an amount of 0 from a variable blocks (T30)');
is(refused_as(call('zero')), 'budget_exceeded', 'a fixed one, too');
is(refused_as(call('zero', { model => 'm-free' })), '',
   'but a model that is free by its price passes (T31)');
is(refused_as(call('zero', { model => 'brand-new' })), 'model_unpriced',
   'and one without a price is not free (T31)');

is(refused_as(call('keys', { team => 'a', env => 'b' })), '',
   'a key may have several variables');
is(refused_as(call('keys', { team => 'a', env => 'c' })), '',
   'another value is another account');
is(refused_as(call('keys', { team => 'a', env => 'b' })), 'rate_limited',
   'and the same value the same');

is_deeply([map { refused_as(call('skip')) } 1 .. 3], ['', '', ''],
          'an empty key skips the limit');
is(scalar(accounts('skip')), 0, 'and has no account');
is_deeply([map { refused_as(call('skip', { team => 's' })) } 1, 2],
          ['', 'rate_limited'], 'which a value has');

is_deeply([map { refused_as(call('own', { key => $_ })) } qw(u1 u2 u1)],
          ['', '', 'rate_limited'],
          'without key= each key has its own account');

is(refused_as(call('bytes', { team => "\xff\x01\"\\\xc3/x" })), '',
   'a key may be any bytes');
is_deeply([map { "$_->{budget} $_->{unit} $_->{spent}" }
           accounts('bytes', ledger_settled())],
          ['bytes requests 1'], 'and the API shows it as JSON');
is(refused_as(call('bytes', { team => "\xc3\xa4" x 100 })), '',
   'or longer than a name in a report');
is(scalar(accounts('bytes')), 2, 'and the API still answers');


# ------------------------------------------------------------- periods

{
    my ($before, $after, @found);

    # again, if a minute ended in between

    for (1 .. 2) {
        $before = ids(time);
        is(refused_as(call('periods')), '', 'a limit may have any period');
        $after = ids(time);
        last if $before->{minute} eq $after->{minute};
    }

    for my $period (@periods) {
        my @ids = grep { $_ eq $before->{$period} || $_ eq $after->{$period} }
            map { $_->{period_id} } accounts($period);

        ok(@ids > 0, "the account of a $period is named by it (T29)");
        ok(!grep({ $_ ne "$period/requests/$ids[0]/all" && @ids == 1 }
                 map { $_->{name} } accounts($period)),
           "as $period/requests/$ids[0]/all");
    }
}


# ---------------------------------------------------------- inheritance

is(refused_as(call('up')), '', 'a location has its limit');
is(refused_as(call('up/inherits')), 'rate_limited',
   'one inside inherits it, account and all');
is(refused_as(call('up/replaces')), '', 'or has its own instead');
is(scalar(accounts('below')), 1, 'with an account of its own');


my $got = balances();

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is($got->{lines}, $got->{wanted}, 'every request has its usage line');
is($got->{log}, $got->{billed}, 'the usage log is what was billed');

$nginx->stop();
done_testing();


sub location
{
    my ($name, $limits) = @_;

    return <<"END";
        location /$name/ {
            llm_budget on;
            $limits
            proxy_pass http://standin;
        }
END
}


# One call of a location; opt: team, env, key, model, standin.

sub call
{
    my ($name, $opt) = @_;

    my %headers = (Authorization => 'Bearer ' . ($opt->{key} // 'k1'));

    $headers{'X-Team'} = $opt->{team} if defined $opt->{team};
    $headers{'X-Env'} = $opt->{env} if defined $opt->{env};

    return post_json("/$name/v1/chat/completions",
                     { %$body, model => $opt->{model} // 'm-std' },
                     headers => \%headers, standin => $opt->{standin});
}


sub refused_as
{
    my ($answer) = @_;

    return '' if $answer->{status} == 200;
    return $answer->{headers}{'x-llm-budget-code'} // $answer->{status};
}


# The accounts of a limit, when nothing is settled any more or at once.

sub accounts
{
    my ($name, $ledger) = @_;

    $ledger //= ledger();

    return grep { $_->{budget} eq $name } @{$ledger->{accounts}};
}


sub last_line
{
    my @lines;

    wait_for(sub { @lines = usage_lines(); return @lines > 0; });

    return $lines[-1];
}


# Period ids by another road than the module's.

sub ids
{
    my ($time) = @_;

    my @now = gmtime($time);

    return { minute => strftime('%Y-%m-%dT%H:%M', @now),
             hour => strftime('%Y-%m-%dT%H', @now),
             day => strftime('%Y-%m-%d', @now),
             week => strftime('%G-W%V', @now),
             month => strftime('%Y-%m', @now),
             year => strftime('%Y', @now), lifetime => 'lifetime' };
}
