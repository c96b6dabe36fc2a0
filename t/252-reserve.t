#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What a call holds before it is made: llm_budget_reserve, the bounds of
# bodies that ask for much, and what happens when it was too little.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my %reserve = (bound => '', default => 'default', four => 'bound output=4',
               two => 'default output=10 bytes_per_token=2', off => 'off');

my $nginx = start_nginx(conf => llm_conf(
    server => '        llm_budget_clamp off;', limit => '',
    locations => join('', map { location($_, $reserve{$_}) }
                      sort keys %reserve) . <<'END'));
        location /overrun/ {
            llm_budget on;
            llm_budget_reserve default output=10;
            llm_budget_limit overrun key=all usd=0.0006;
            proxy_pass http://standin;
        }

        location /tight/ {
            llm_budget on;
            llm_budget_reserve default;
            llm_budget_limit tight key=all usd=0.020980000;
            proxy_pass http://standin;
        }

        location /one-less/ {
            llm_budget on;
            llm_budget_reserve default;
            llm_budget_limit less key=all usd=0.020979999;
            proxy_pass http://standin;
        }

        location /after/ {
            llm_budget on;
            llm_budget_reserve off;
            llm_budget_limit after key=all usd=0.0005;
            proxy_pass http://standin;
        }
END


# -------------------------------------------------- the arithmetic (T20)

# all keys, strings and literals together have 400 bytes: 100 tokens

my %plain = sized(400, model => 'm-std');

is(hold('default', \%plain), 10_490_000,
   '400 bytes and 1024 tokens of output hold 10490000 nano-USD (T20)');
is(hold('bound', \%plain), (400 + 16 + 64) * 2500 + 16384 * 10000,
   'the bound is a token a byte and all the model can say');
is(hold('two', \%plain), 200 * 2500 + 10 * 10000,
   'output and bytes per token can be set');
is(hold('default', { sized(401, model => 'm-std') }),
   101 * 2500 + 1024 * 10000, 'a part of a token is a token');
is(hold('off', \%plain), 0, 'off holds nothing');
is(spent(ledger_settled(), 'all_off'), last_line()->{cost_nusd},
   'but charges what was used');

# a model that has no maximum of its own

is(hold('four', { sized(400, model => 'm-nomax') }), 480 * 2500 + 4 * 10000,
   'without any bound the configured output is held');
is(sent()->{max_completion_tokens}, 4, 'and written into the request');
is(hold('bound', { sized(400, model => 'm-nomax') }),
   480 * 2500 + 4096 * 10000, 'by default 4096 tokens');
is(hold('default', { sized(400, model => 'm-nomax') }), 10_490_000,
   'the default asks for 1024');
ok(!exists sent()->{max_completion_tokens}, 'and does not write them');

# two at once, to the nano-USD; each costs what it held

for my $case (['tight', 2], ['one-less', 1]) {
    my ($name, $most) = @$case;

    my @status = parallel(2, sub {
        return { code => call($name, \%plain,
                             'delay=300; prompt=100; out=1024')->{status} };
    });

    is(grep({ $_->{code} == 200 } @status), $most,
       "$most of two such calls at once fit into $name");
}


# --------------------------------------------------- large numbers (T20)

my %fixed = (model => 'm-std');

is(hold('bound', { sized(400, %fixed, max_tokens => 999999999) }),
   480 * 2500 + 16384 * 10000,
   'max_tokens of 999999999 holds what the model can say (T20)');
is(hold('default', { sized(400, %fixed, max_tokens => 999999999) }),
   100 * 2500 + 16384 * 10000, 'also when less is assumed by default');
is(hold('default', { sized(400, %fixed, max_completion_tokens => 7,
                           max_tokens => 5000) }),
   100 * 2500 + 5000 * 10000,
   'of two ceilings the larger is held, since providers differ');
is(hold('bound', { sized(400, %fixed, max_tokens => 100, n => 8) }),
   480 * 2500 + 800 * 10000, 'n of 8 holds eight answers');
is(hold('default', { sized(400, %fixed, n => 8) }),
   100 * 2500 + 8192 * 10000, 'of the default, too');

{
    my $image = 'QUJD' x (3 * 1024 * 256);
    my %body = (model => 'm-std', max_tokens => 10, messages => [{
        role => 'user', content => [
            { type => 'text', text => 'abcd' },
            { type => 'image_url', image_url => {
                url => "data:image/png;base64,$image" } }] }]);

    my $held = hold('default', \%body);

    # 2000 for the image, and less than 100 for the rest

    cmp_ok($held, '>=', 2000 * 2500 + 10 * 10000,
           'an image of 3 MiB holds the constant of an image (T20)');
    cmp_ok($held, '<', 2100 * 2500 + 10 * 10000, 'and not its bytes');
    is(length($standin->last_request()->{body_length}), 7,
       'and is sent as it came');
}

{
    my %body = (model => 'm-embed', input => 'x' x 300);

    is(hold('default', \%body, '/v1/embeddings'),
       20 * ((5 + 7 + 5 + 300 + 3) / 4), 'an embedding holds its input');
}


# ------------------------------------- more than was held (T54)

{
    my $before = $standin->stats()->{billed_nusd};
    my $answer = call('overrun', { sized(40, model => 'm-std') }, 'out=100');

    is($answer->{status}, 200, 'a call whose hold fits is let in');

    my $line = last_line();
    my $cost = $standin->stats()->{billed_nusd} - $before;

    is($line->{hold_nusd}, 10 * 2500 + 10 * 10000, 'its hold was too small');
    is($line->{cost_nusd}, $cost, 'all of it is charged (T54)');
    is($line->{overrun_nusd}, $cost - 125_000, 'the surplus is in the log');
    is(spent(ledger_settled(), 'overrun'), $cost, 'and in the ledger');
    cmp_ok($cost, '>', 600_000, 'beyond the limit');

    $answer = call('overrun', { sized(40, model => 'm-std') });

    is($answer->{status}, 429, 'and the next call is refused');
    is($answer->{headers}{'x-llm-budget-code'}, 'budget_exceeded', 'for it');
    is(last_line()->{hold_nusd}, 0, 'a refused call holds nothing');
}

{
    # 0.0004 dollars each

    my @codes = map {
        call('after', { sized(400, model => 'm-std') }, 'out=15')->{status}
    } 1 .. 3;

    is_deeply(\@codes, [200, 200, 429],
              'without a hold the call that crosses is served, not the next');
    is(call('after', { sized(400, model => 'm-free') })->{status}, 200,
       'but a free model is (T31)');
}


# ----------------------------------------- numbers that lie (T21)

{
    my $calls = $standin->stats()->{requests};
    my $ledger = ledger_settled();

    for my $case (
        ['n', '18446744073686646784'], ['n', '-1'], ['n', '1.5'],
        ['n', '"2"'], ['n', '4294967296'],
        ['max_tokens', '-1'], ['max_tokens', '1e400'],
        ['max_tokens', '"100"'], ['max_tokens', '1.5'],
        ['max_tokens', 'NaN'], ['max_tokens', '01'],
        ['max_tokens', '99999999999999999999'], ['max_tokens', 'true'],
        ['max_completion_tokens', '-5'],
        ['max_completion_tokens', '[1]'])
    {
        my ($name, $value) = @$case;
        my $answer = call('bound', '{"model":"m-std","messages":[{"role":'
            . qq("user","content":"x"}],"$name":$value}));
        my $error = eval { decode_json($answer->{body})->{error} };

        is($answer->{status}, 400, "$name of $value is refused (T21)");
        is($error->{param}, $name, 'and named')
            unless $value =~ /^(?:NaN|01)$/;
    }

    is($standin->stats()->{requests}, $calls, 'none was sent');

    my $spent = sub { return join(' ', map { "$_->{name}=$_->{spent}" }
                                  @{$_[0]{accounts}}) };

    is($spent->(ledger()), $spent->($ledger), 'none was charged');
}

{
    # what can be said in JSON, but not be paid: the sum is beyond 2^63

    my $answer = call('bound', { sized(400, model => 'm-nomax', n => 2**31 - 1,
                                       max_tokens => 2**31 - 1) });

    is($answer->{status}, 400, 'answers times tokens may not overflow (T21)');
}


my $got = balances();

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is(sum(map { spent($got->{ledger}, $_) }
       'tight', 'less', 'overrun', 'after', map { "all_$_" } keys %reserve),
   $got->{billed}, 'the ledger is what was billed');
is($got->{log}, $got->{billed}, 'the usage log is what was billed');

$nginx->stop();
done_testing();


sub location
{
    my ($name, $reserve) = @_;

    $reserve = length $reserve ? "llm_budget_reserve $reserve;" : '';

    return <<"END";
        location /$name/ {
            llm_budget on;
            client_max_body_size 8m;
            $reserve
            llm_budget_limit all_$name key=all usd=1000;
            proxy_pass http://standin;
        }
END
}


# A chat body whose keys, strings and literals have so many bytes together.

sub sized
{
    my ($size, %body) = @_;

    my @texts = %body;

    $body{messages} = [{ role => 'user', content => '' }];
    $size -= length($_) for @texts, qw(messages role user content);
    $body{messages}[0]{content} = 'x' x $size;

    return %body;
}


sub call
{
    my ($name, $body, $standin, $path) = @_;

    return post_json("/$name" . ($path // '/v1/chat/completions'), $body,
                     headers => { Authorization => 'Bearer k1' },
                     standin => $standin // 'out=2');
}


sub hold
{
    my ($name, $body, $path) = @_;

    my $answer = call($name, $body, undef, $path);

    return "status $answer->{status}" if $answer->{status} != 200;
    return last_line()->{hold_nusd};
}


# The usage line of the request made last.

sub last_line
{
    my @lines;

    wait_for(sub {
        @lines = usage_lines();
        return @lines >= $LLMBudget::MADE;
    });

    return $lines[-1];
}


sub sent
{
    return decode_json($standin->last_request()->{body});
}


sub sum
{
    my $sum = 0;

    $sum += $_ for @_;

    return $sum;
}
