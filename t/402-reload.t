#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Reload and shutdown: what was spent is kept, what is in flight is charged,
# and a configuration that would lose it is refused (T40, T56, T28).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $prices = read_file(prices());
my %conf = (prices => '%%DIR%%/prices.json', zone => 'llm 1m');

my $chat = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' }] };

my $nginx = start_nginx(workers => 2, files => { 'prices.json' => $prices },
                        conf => llm_conf(%conf));


# ------------------------------------- reloads under streams (T40)

{
    my @results = parallel(41, sub {
        my ($i) = @_;

        if ($i == 40) {
            for (1 .. 15) {
                $nginx->signal('HUP');
                sleep_ms(200);
            }

            return { bad => '' };
        }

        my @bad;

        for (1 .. 3) {
            my $answer = call({ %$chat, stream => \1 }, 'out=25; gap=40');

            push @bad, $answer->{status}
                if $answer->{status} != 200
                || $answer->{body} !~ /\[DONE\]\n\n\z/;
        }

        return { bad => "@bad" };
    });

    is(join('', map { $_->{bad} } @results), '',
       '120 streams at 40 clients end well while nginx reloads 15 times');
    balanced('and are charged, each once (T40)', wait => 10);
    ok(wait_for(sub { $nginx->workers() == 2 }, 10),
       'no worker of an older generation stays');
    ok(wait_for(sub {
        my $log = $nginx->log_text();
        my $reloads = () = $log =~ /signal 1 \(SIGHUP\) received from/g;
        return $reloads > 5;
    }), 'there were reloads');
}


# ------------------------------- what a configuration cannot do

my $spent = spent(ledger());

cmp_ok($spent, '>', 0, 'the reloads have kept what was spent');

refused('a zone of another size', llm_conf(%conf, zone => 'llm 2m'),
        qr/the size of zone "llm" cannot change from 1048576 to 2097152 on /);

for my $case (
    ['a price file that is broken', '{ "m-std": ', qr/prices "[^"]+":1: /],
    ['a price file without its models', '{}', qr/llm_budget: /],
    ['a price file that is empty', '', qr/llm_budget: /],
    ['a price above ten times the old one',
     edited('m-std', 'input_cost_per_token', '2.51e-05'),
     qr/the input price of "m-std" would move from 2500000 to 25100000/],
    ['a price below a tenth of the old one',
     edited('m-std', 'output_cost_per_token', '9.9e-07'),
     qr/the output price of "m-std" would move from 10000000 to 990000 /],
    ['a cached price above ten times the old one',
     edited('m-std', 'cache_read_input_token_cost', '1.3e-05'),
     qr/price of "m-std" would move from 1250000 to 13000000/],
    ['a price that becomes free',
     edited('m-mini', 'input_cost_per_token', '0.0'), qr/"m-mini"/],
    ['a free model that gets a price',
     edited('m-free', 'output_cost_per_token', '1e-06'), qr/"m-free"/],
    ['a price per million', edited('m-std', 'input_cost_per_token', '2.5'),
     qr/"m-std"/])
{
    my ($what, $text, $message) = @$case;

    write_file("$nginx->{dir}/prices.json", $text);
    refused($what, undef, $message);
}


# ------------------------------------- and what it can

{
    my $version = last_line()->{price_version};

    write_file("$nginx->{dir}/prices.json",
               edited('m-std', 'input_cost_per_token', '2.5e-05'));
    ok(reloaded(llm_conf(%conf)), 'ten times the price is let in');

    is(call($chat, 'prompt=100; out=1')->{status}, 200, 'and served');

    my $line = last_line();

    is($line->{cost_nusd}, 100 * 25000 + 10000, 'and charged (T56)');
    isnt($line->{price_version}, $version, 'with another price version');
    is(length($line->{price_version}), 64, 'a hash');

    write_file("$nginx->{dir}/prices.json", $prices);
    ok(reloaded(), 'and back');
    is(call($chat, 'prompt=100; out=1')->{status}, 200, 'and served');
    is(last_line()->{price_version}, $version, 'with the first version');

    # a limit below what was spent refuses; usage is never touched

    $spent = settled();

    ok(reloaded(llm_conf(%conf,
        limit => 'all key=all usd=0.000001 per=lifetime')),
       'a limit can be lowered below what was spent');
    is(call($chat)->{status}, 429, 'then calls are refused (T29)');
    is(settled(), $spent, 'and what was spent stays');
    ok(reloaded(llm_conf(%conf)), 'it can be raised again');
    is(call($chat, 'out=1')->{status}, 200, 'and calls are served');
}


# ------------------------------------------ another secret (T28)

for my $secret ('s-old', 's-new') {
    reloaded(llm_conf(%conf, key => '$who',
        limit => 'rotated requests=1', http => <<"END"));
    map \$http_authorization \$who {
        default            "";
        "Bearer $secret"   alice;
    }
END

    if ($secret eq 's-old') {
        is(call($chat, 'out=1', 's-old')->{status}, 200,
           'a key makes its one call');
        settled();
    }

    is(call($chat, '', $secret)->{status}, 429,
       $secret eq 's-old' ? 'and no other'
                          : 'another secret of the same key makes none (T28)');
}

is(call($chat, '', 's-old')->{status}, 401, 'the old secret is unknown');


# --------------------------------------------- quit in a stream

{
    reloaded(llm_conf(%conf));

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        my $answer = call({ %$chat, stream => \1 }, 'out=20; gap=80');
        POSIX::_exit($answer->{body} =~ /\[DONE\]/ ? 0 : 1);
    }

    ok(wait_for(sub { ledger()->{stat}{pending} == 1 }), 'a stream runs');

    my @lines = usage_lines();
    my $before = @lines;

    $nginx->stop(title => 'nginx quits with nothing to report',
                 allow => qr/\[emerg\].*llm_budget: |\[emerg\].*prices/);
    waitpid($pid, 0);

    is($?, 0, 'the stream was brought to its end (T40)');

    @lines = usage_lines();

    is(@lines, $before + 1, 'and has its usage line');
    is($lines[-1]{usage_source}, 'provider', 'from its usage');

    my $call = $standin->stats()->{calls}[-1];

    is($lines[-1]{cost_nusd}, $call->{billed_nusd}, 'and all was charged');
}

done_testing();


sub call
{
    my ($body, $controls, $secret) = @_;

    return post_json('/v1/chat/completions', $body,
                     headers => { Authorization => 'Bearer '
                                  . ($secret // 'k1') },
                     standin => $controls);
}


# The fixture prices with one number changed.

sub edited
{
    my ($model, $name, $value) = @_;

    my $text = $prices;

    $text =~ s/("\Q$model\E": \{[^}]*?"\Q$name\E": )[-+.\de]+/$1$value/
        or die "no $name of $model\n";

    return $text;
}


# Reloads, and waits until no old worker can take a call.

sub reloaded
{
    my ($conf) = @_;

    return $nginx->reload($conf)
        && wait_for(sub { $nginx->workers() == 2 }, 10);
}


# A reload is refused with a message, and the old generation serves on.

sub refused
{
    my ($what, $conf, $message) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my @workers = $nginx->workers();
    my $before = length($nginx->log_text());

    $nginx->write_conf($conf) if defined $conf;
    $nginx->signal('HUP');

    my $said = wait_for(sub {
        return substr($nginx->log_text(), $before) =~ /\[emerg\] .*$message/;
    });

    ok($said, "$what is refused on reload")
        or diag(substr($nginx->log_text(), $before));
    is_deeply([$nginx->workers()], \@workers, 'the old workers stay');
    is(call($chat, 'out=1')->{status}, 200, 'and serve');
    is(settled(), spent_lines(), 'from the same ledger');

    $nginx->write_conf(llm_conf(%conf)) if defined $conf;
}


# What was spent, when nothing is in flight.

sub settled
{
    my $ledger;

    wait_for(sub {
        $ledger = ledger();
        return $ledger && $ledger->{stat}{pending} == 0;
    });

    return spent($ledger);
}


sub spent_lines
{
    last_line();

    my $sum = 0;

    $sum += $_->{cost_nusd} for usage_lines();

    return $sum;
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
