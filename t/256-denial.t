#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Refusals: the shape of each dialect, a code for each cause, and what SDKs
# are told about trying again (T42).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use POSIX qw(strftime);
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(conf => llm_conf(
    limit => '', server => '        llm_budget_clamp off;',
    locations => join('',
        location('zero', 'usd=0 per=month'),
        location('life', 'usd=0'),
        location('hide', 'usd=0 per=month', 'llm_budget_show_amounts off;'),
        location('own', 'usd=0 per=month code=insufficient_quota'),
        location('pay', 'usd=0 per=month', 'llm_budget_status 402;'),
        location('gone', 'usd=0 per=month', 'llm_budget_status 503;'),
        location('large', 'usd=0.000001 per=month'),
        location('busy', 'usd=0.01'),
        location('rate', 'requests=0 per=minute'),
        location('year', 'requests=0 per=year'),
        location('tokens', 'tokens=0 per=minute'),
        location('flight', 'concurrency=0'),
        <<'END')));
        location /several/ {
            llm_budget on;
            llm_budget_limit calls key=all requests=0 per=minute;
            llm_budget_limit money key=all usd=0 per=year;
            llm_budget_limit slots key=all concurrency=0;
            proxy_pass http://standin;
        }
END

my $messages = [{ role => 'user', content => 'abcd' }];
my %chat = (model => 'm-std', messages => $messages, max_tokens => 100);

my @dialects = (
    ['chat/completions', \%chat],
    ['chat/completions', { %chat, stream => \1 }],
    ['completions', { model => 'm-std', prompt => 'abcd' }],
    ['responses', { model => 'm-std', input => 'abcd' }],
    ['embeddings', { model => 'm-embed', input => 'abcd' }],
    ['messages', { %chat, model => 'c-std' }],
    ['messages', { %chat, model => 'c-std', stream => \1 }],
);


# ------------------------------------------- each dialect's shape

for my $case (@dialects) {
    my ($path, $body) = @$case;
    my $end = month_end();
    my $answer = call('zero', $path, $body);
    my $json = eval { JSON::PP->new->utf8->decode($answer->{body}) };
    my $error = $json->{error};

    $end = month_end() if ($error->{metadata}{resets_at} // '') ne $end;

    my $what = $path . ($body->{stream} ? ' as a stream' : '');

    is($answer->{status}, 429, "$what is refused");
    is($answer->{headers}{'content-type'}, 'application/json',
       'with JSON, also for a stream (T42)');

    my %members = (
        message => qq(The budget "zero" is used up until $end.),
        code => 'budget_exceeded', source => 'gateway',
        metadata => { scope => 'zero', unit => 'usd', limit_usd => '0.000000000',
                      spent_usd => '0.000000000', held_usd => '0.000000000',
                      requested_usd => $error->{metadata}{requested_usd},
                      resets_at => $end });

    if ($path eq 'messages') {
        is(delete $json->{request_id}, last_line()->{id},
           'the request has the id of its usage line');
        is_deeply($json, { type => 'error', error => {
            %members, type => 'rate_limit_error' } },
                  'in the shape of Anthropic');

    } else {
        is_deeply($json, { error => { %members, type => 'budget_exceeded',
                                      param => undef } },
                  'in the shape of OpenAI');
    }

    like($error->{metadata}{requested_usd}, qr/^0\.\d+$/,
         'the amount asked for is a decimal string');
    is($answer->{headers}{'x-should-retry'}, 'false',
       'SDKs are told not to try again (T42)');
    is($answer->{headers}{'x-llm-budget-code'}, 'budget_exceeded',
       'the code is in a header, too');
    within($answer->{headers}{'retry-after'}, month_end_seconds(),
           'Retry-After is the end of the month');
    is_deeply([grep { /^(?:x-ratelimit|anthropic-ratelimit)/ }
               keys %{$answer->{headers}}], [],
              'no rate limit header of a provider comes with it');
}


# --------------------------------------------------- each cause

for my $case (
    ['large', 'request_exceeds_budget', 'budget_exceeded', 'usd', 'false'],
    ['rate', 'rate_limited', 'rate_limit_error', 'requests', undef, 60],
    ['tokens', 'token_limited', 'rate_limit_error', 'tokens', undef, 60],
    ['flight', 'concurrency_limited', 'rate_limit_error', 'concurrency',
     undef, 10],
    ['life', 'budget_exceeded', 'budget_exceeded', 'usd', 'false'],
    ['own', 'insufficient_quota', 'budget_exceeded', 'usd', 'false', 1e8],
    ['year', 'rate_limited', 'rate_limit_error', 'requests', 'false', 1e8])
{
    my ($name, $code, $type, $unit, $retry, $most) = @$case;
    my $answer = call($name);
    my $error = eval { decode_json($answer->{body})->{error} };

    is($error->{code}, $code, "$name refuses as $code (T42)");
    is($error->{type}, $type, "which is a $type");
    is($error->{metadata}{unit}, $unit, "of $unit");
    is($error->{metadata}{scope}, $name, 'by this limit');
    is($answer->{headers}{'x-should-retry'}, $retry,
       defined $retry ? 'trying again does not help' : 'waiting helps');

    if ($most) {
        cmp_ok($answer->{headers}{'retry-after'}, '<=', $most,
               "after $most seconds at most");
        like($answer->{headers}{'retry-after'}, qr/^[1-9]\d*$/,
             'in whole seconds');

    } else {
        is($answer->{headers}{'retry-after'}, undef, 'and no time is given');
    }

    is(last_line()->{code}, $code, 'the usage line has the code');
    is(last_line()->{limit}, $name, 'and the limit');
}

is(decode_json(call('rate')->{body})->{error}{metadata}{limit}, 0,
   'counts are numbers');
is(decode_json(call('life')->{body})->{error}{metadata}{resets_at}, undef,
   'a lifetime has no end');
like(decode_json(call('life')->{body})->{error}{message},
     qr/until further notice\.$/, 'and says so');


# --------------------------------- holds in the way: a short wait

{
    my @answers = parallel(2, sub {
        my ($i) = @_;

        if ($i == 0) {
            call('busy', 'chat/completions', { %chat, max_tokens => 700 },
                 'delay=2000; out=2');
            return {};
        }

        wait_for(sub {
            my ($account) = grep { $_->{budget} eq 'busy' && $_->{held} }
                @{ledger()->{accounts}};
            return $account;
        });

        my $answer = call('busy', 'chat/completions',
                          { %chat, max_tokens => 700 });

        return { code => $answer->{headers}{'x-llm-budget-code'},
                 after => $answer->{headers}{'retry-after'},
                 retry => $answer->{headers}{'x-should-retry'},
                 message => $answer->{body} };
    });

    is($answers[1]{code}, 'budget_hold_contention',
       'holds in the way are another cause (T42)');
    cmp_ok($answers[1]{after}, '<=', 10, 'a short wait is asked for');
    is($answers[1]{retry}, undef, 'and trying again not forbidden');
    like($answers[1]{message}, qr/held by requests in flight/, 'and said');
    is(call('busy', 'chat/completions', { %chat, max_tokens => 700 })
       ->{status}, 200, 'then there is room');
}


# ---------------------------------------- several at once, options

is(call('several')->{headers}{'x-llm-budget-code'}, 'budget_exceeded',
   'of several causes the one that lasts longest is told');

{
    my $hidden = call('hide');
    my $metadata = decode_json($hidden->{body})->{error}{metadata};

    is_deeply([sort keys %$metadata], [qw(resets_at scope unit)],
              'show_amounts off hides every amount');
    unlike($hidden->{raw}, qr/remaining|requested|_usd/, 'everywhere');
    is(decode_json(call('zero', 'messages', { %chat, model => 'c-std' })
                   ->{body})->{error}{type}, 'rate_limit_error',
       'Anthropic has a type for each status');

    my $paid = call('pay', 'messages', { %chat, model => 'c-std' });

    is($paid->{status}, 402, 'the status can be set');
    is(decode_json($paid->{body})->{error}{type}, 'billing_error',
       'and Anthropic\'s type goes with it');
    is(call('pay')->{status}, 402, 'for all dialects');
    is(call('gone')->{headers}{'x-should-retry'}, 'false',
       'a refusal for money is final, whatever its status (T42)');
}

{
    my $answer = call('zero', 'chat/completions',
                      { %chat, model => "m\"\\\x{e9}-nope" });

    is($answer->{status}, 400, 'a strange name is refused');
    is(eval { JSON::PP->new->utf8->decode($answer->{body}) }
       ->{error}{message}, "Model \"m\"\\\x{e9}-nope\" has no price here.",
       'and quoted as JSON wants it');
}


is($standin->stats()->{requests} - 2, 0, 'no refused call was sent');

my $got = balances();

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is($got->{lines}, $got->{wanted}, 'every refusal has its usage line');
is(spent($got->{ledger}, 'busy'), $got->{billed},
   'the ledger is what was billed');
is($got->{log}, $got->{billed}, 'the usage log is what was billed');

$nginx->stop();
done_testing();


sub location
{
    my ($name, $amounts, $more) = @_;

    $more //= '';

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit $name key=all $amounts;
            $more
            proxy_pass http://standin;
        }
END
}


sub call
{
    my ($name, $path, $body, $standin) = @_;

    return post_json("/$name/v1/" . ($path // 'chat/completions'),
                     $body // \%chat,
                     headers => { Authorization => 'Bearer k1' },
                     standin => $standin);
}


# The end of this month, by another road than the module's.

sub month_end
{
    my @now = gmtime();
    my ($year, $month) = ($now[5] + 1900, $now[4] + 2);

    ($year, $month) = ($year + 1, 1) if $month > 12;

    return sprintf('%04d-%02d-01T00:00:00Z', $year, $month);
}


sub month_end_seconds
{
    my $now = time;
    my $t = $now - $now % 3600;
    my $month = strftime('%Y-%m', gmtime($t));

    $t += 3600 while strftime('%Y-%m', gmtime($t)) eq $month;

    return $t - $now;
}


sub within
{
    my ($got, $want, $title) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok(defined $got && abs($got - $want) <= 20, $title)
        or diag("got $got, want about $want");
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
