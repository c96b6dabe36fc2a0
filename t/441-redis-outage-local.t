#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# "llm_budget_outage allow" and "local": calls are let in while Redis is away,
# all of them or a share of each limit out of the zone, and afterwards Redis
# has each of them exactly once, also where only its answer was lost (T24).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;
use LLMBudgetRedis;


need_module();
need_redis();

my $standin = start_standin();
my $redis = start_redis(appendonly => 1);
my $proxy = start_faults($redis);

# a call: 1 token in, 3 out, each 2,500 and 10,000 nano-USD; what is held

my $COST = 32_500;
my $HELD = 502_500;

my $nginx = start_nginx(workers => 1, conf => conf());


# ------------------------------------------------------------------- allow

for my $case (
    ['was killed', sub { $redis->kill9() }, sub { $redis->start_again() }],
    ['refuses connections', sub { $proxy->set('refuse') }, \&no_faults],
    ['never answers', sub { $redis->pause() }, sub { $redis->resume() }],
    ['is read-only', scripts('reply', '-READONLY no'), \&no_faults],
    ['has no memory', sub { $redis->cli(qw(CONFIG SET maxmemory 1)) },
     sub { $redis->cli(qw(CONFIG SET maxmemory 0)) }],
    ['loses its answers', scripts('drop_reply'), \&no_faults],
    ['answers garbage', scripts('garbage'), \&no_faults],
    ['has lost a key (T64)',
     sub { $redis->cli('RENAME', 'llmb{-}:accounts', 'saved') },
     sub { $redis->cli('RENAME', 'saved', 'llmb{-}:accounts') }])
{
    my ($title, $break, $heal) = @$case;

    subtest("allow: Redis $title", sub {
        fresh();

        my $stream = before();

        $break->();

        my @answers = map { call('/allow/') } 1 .. 20;

        # more than the limit, which nobody looks at

        is(codes(@answers), '200 allow x20', 'all calls are let in');
        is(codes(call('/v1/')), '503 deny x1', '... but where they are not');
        ended($stream);
        $heal->();
        after(20);
        is(outages(), 'allow x20, deny x1', '... as the usage lines say');
    });
}


# The ceiling of a call is not clamped, and its model not degraded.

{
    fresh();
    $proxy->set('refuse');
    call('/allow/', model => 'm-std', max_tokens => 9000,
         standin => 'out=9');
    is($standin->last_request()->{body} =~ /"max_tokens":9000\b/, 1,
       'what is let in is what was sent');
    no_faults();
    balanced('... and charged', wait => 8);
}


# ------------------------------------------------------------------- local

for my $case (
    ['was killed', sub { $redis->kill9() }, sub { $redis->start_again() }],
    ['never answers', sub { $redis->pause() }, sub { $redis->resume() }],
    ['loses its answers', scripts('drop_reply'), \&no_faults],
    ['answers with errors', scripts('reply', '-ERR so'), \&no_faults])
{
    my ($title, $break, $heal) = @$case;

    subtest("local: Redis $title", sub {
        restart();

        my $stream = before();

        $break->();

        # 20% of 0.005 dollars is 0.001: so much may be held and spent

        my $max = int((1_000_000 - $HELD) / $COST) + 1;
        my @answers = map { call('/local/') } 1 .. $max + 3;
        my $last = $answers[-1];
        my $error = eval { JSON::PP::decode_json($last->{body}) }->{error};

        is(codes(@answers), "200 local x$max, 429 local x3",
           'as much is let in as the share has room for');
        is($error->{code}, 'budget_exceeded', '... and then denied as such');
        is($error->{metadata}{scope}, 'own', '... with the limit');
        is($last->{headers}{'x-llm-budget-code'}, 'budget_exceeded',
           '... in the header, too');
        is(codes(call('/local/', key => 'k2')), '200 local x1',
           'another key has a share of its own');

        my @zone = zone();

        is(join(' ', grep { !/^local:/ } map { $_->{budget} } @zone), '',
           'in the zone they are accounts of their own');
        is((grep { $_->{name} =~ m{^local:own/usd/.*/k1$} } @zone)[0]{spent},
           $max * $COST, '... charged there');

        ended($stream);
        $heal->();
        after($max + 1);
        is(outages(), 'local x' . ($max + 4), '... as the usage lines say');
    });
}


# A count has at least one, and what is in flight gives it back.

{
    restart();
    $proxy->set('refuse');

    is(codes(map { call('/count/') } 1 .. 3), '200 local x1, 429 local x2',
       'local: a share of 3 requests is at least one');
    is(codes(map { call('/flying/') } 1 .. 3), '200 local x3',
       '... of 2 in flight, too, one after another');

    my $stream = call('/flying/', stream => 1, no_read => 1, keep => 1,
                      standin => 'out=10; gap=40');

    wait_for(sub { $standin->stats()->{in_flight} == 1 });
    is(codes(call('/flying/')), '429 local x1', '... and not more at once');
    ended($stream);
    no_faults();
    after(5);
}


# When the share is used up, a cheaper model may still fit in.

{
    restart();
    $proxy->set('refuse');

    my @answers = map { call('/ladder/') } 1 .. 20;
    my %models = map { ($_->{model} => 1) } usage_lines();

    is(codes(@answers), '200 local x20', 'local: a ladder goes on');
    is(join(' ', sort keys %models), 'm-mini m-std', '... with another model');
    no_faults();
    after(20);
}


# The zone's own budgets of the same names know nothing of it.

{
    restart();
    $proxy->set('refuse');
    is(codes(map { call('/local/') } 1 .. 2), '200 local x2',
       'local: two calls');
    is(codes(call('/zone/', model => 'm-free')), '200 - x1',
       '... and one where the zone is the store');

    my %spent = map { ("$_->{budget} $_->{unit}" => $_->{spent}) } zone();

    is($spent{'own usd'}, 0, 'its budget has nothing of the others');
    is($spent{'own requests'}, 1, '... but its own');
    is($spent{'local:own usd'}, 2 * $COST, '... and theirs nothing of it');
    no_faults();
    balanced('afterwards all is in Redis', wait => 8);
    is(join(' ', grep { /^local/ } map { $_->{budget} }
            @{ledger()->{accounts}}), '', '... under its proper names');
}


# ----------------------------------------------- an open of unknown fate

for my $where ('/v1/', '/allow/', '/local/') {
    for my $mode ('drop_reply', 'reset', 'reset_mid_reply', 'garbage') {
        restart();
        before(0);
        $proxy->set("$mode 1 match=EVALSHA");

        my $answer = call($where);

        is($answer->{status}, $where eq '/v1/' ? 503 : 200,
           "$where: an open meets $mode");
        no_faults();
        after($where eq '/v1/' ? 0 : 1);
    }
}


# A client that leaves while the open of his hold waits for its answer.

for my $where ('/v1/', '/allow/', '/local/') {
    restart();
    before(0);
    $redis->pause();

    my $stats = $standin->stats();

    call($where, abort_after => 50, rst => 1);
    wait_for(sub { usage_lines() == $LLMBudget::MADE });
    is($standin->stats()->{requests}, $stats->{requests},
       "$where: a client leaves before his hold is open");
    $redis->resume();
    after(0);
}


# ------------------------------------------------- a journal with no room

{
    restart();
    before(0);
    $proxy->set('refuse');

    # a file of another worker's that has all the room

    my $file = write_file("$nginx->{dir}/journal/bad.journal.1.0",
                          'x' x 70_000 . "\n");

    # the folder is looked through once a second: a call that is let in before
    # it was would have nowhere to write its charge

    sleep_ms(1200);

    ok(wait_for(sub { call('/allow/')->{status} == 503 }, 5),
       'where the journal has no room, "allow" refuses');

    my $before = $standin->stats()->{requests};

    is(codes(map { call($_) } qw(/allow/ /local/)), '503 deny x2',
       '... and "local"');
    is($standin->stats()->{requests}, $before, '... and nothing is sent');
    unlink($file);
    ok(wait_for(sub { call('/allow/')->{status} == 200 }, 5),
       '... until it has');
    is(codes(call('/local/')), '200 local x1', '... for both');
    no_faults();
    balanced('what was let in is charged', wait => 8);
    counted();
}

unlike($nginx->log_text(), qr/is lost/, 'no charge was lost');

$nginx->stop();
$_->stop() for $proxy, $redis;
done_testing();


# A call, and a stream that goes on.

sub before
{
    my ($stream) = @_;

    ok(wait_for(sub { call('/v1/')->{status} == 200 }, 8),
       'a call is served before');
    wait_for(sub { ((ledger() // {})->{stat}{pending} // 1) == 0 });

    return if defined $stream && !$stream;

    $stream = call('/v1/', no_read => 1, keep => 1, stream => 1,
                   standin => 'out=8; gap=40');

    ok(wait_for(sub { $standin->stats()->{in_flight} == 1 }),
       'a stream begins');

    return $stream;
}


sub ended
{
    my ($stream) = @_;

    like(send_raw([], sock => $stream->{sock})->{body}, qr/\[DONE\]\n\n\z/,
         'the stream ends well');
}


# When Redis is back: all calls are charged, once, n of them let in without it.

sub after
{
    my ($n) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    # what the journal has was never opened: it is not pending

    wait_for(\&journal_is_empty, 15);
    balanced('afterwards the books agree', wait => 8);
    counted();

    is(scalar(grep { $_->{status} == 200 && $_->{outage} } usage_lines()), $n,
       "$n of them were let in meanwhile");
}


# Each call that was served is in Redis, once, by its id.

sub counted
{
    my $told = wait_for(\&journal_is_empty, 15);
    my @lines = usage_lines();
    my @served = grep { $_->{status} == 200 && $_->{store} eq 'redis' } @lines;
    my %ids = map { $_->{id} => 1 } @lines;
    my $stat = (wait_for(sub { ledger() }, 8) || {})->{stat};
    my $holds = ledger_dump($redis, 'llmb', '-')->{holds};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok($told, 'nothing is left in the journal');
    is(scalar(keys %ids), @lines, 'each line has its id');
    is($stat->{posted}, @served, 'what was served was posted, once');
    is(join(' ', grep { ($holds->{$_} // '') ne 'p' }
            map { $_->{id} } @served), '',
       '... by its id');
    is($stat->{expired}, 0, 'nothing has expired');
    is($stat->{pending}, 0, 'nor is pending');
}


# "status outage xN, ..."

sub codes
{
    my %n;

    $n{"$_->{status} " . ($_->{headers}{'x-llm-budget-outage'} // '-')}++
        for @_;

    return join(', ', map { "$_ x$n{$_}" } sort keys %n);
}


sub outages
{
    my %n;

    $n{$_}++ for grep { defined } map { $_->{outage} } usage_lines();

    return join(', ', map { "$_ x$n{$_}" } sort keys %n);
}


sub zone
{
    return @{(api('zone/ledger') // {})->{accounts} // []};
}


sub conf
{
    my $limits = join('', map { "            llm_budget_limit $_;\n" }
        'all key=all usd=1000 per=lifetime',
        'own key=$http_x_key usd=0.005 requests=1000 per=day');
    my $more = '';

    for my $case (
        ['allow', 'llm_budget_outage allow', $limits],
        ['local', 'llm_budget_outage local share=20%', $limits],
        ['count', 'llm_budget_outage local share=10%',
         "            llm_budget_limit all key=all usd=1000 per=lifetime;\n"
         . "            llm_budget_limit count key=all requests=3 "
         . "per=lifetime;\n"],
        ['flying', 'llm_budget_outage local share=1%',
         "            llm_budget_limit all key=all usd=1000 per=lifetime;\n"
         . "            llm_budget_limit flying key=all concurrency=2 "
         . "per=lifetime;\n"],
        ['ladder', "llm_budget_outage local share=20%;\n            "
         . 'llm_budget_degrade at=90% m-std=m-mini', $limits],
        ['zone', 'llm_budget_store zone', $limits])
    {
        my ($path, $directive, $limits) = @$case;

        $more .= <<"END";
        location /$path/ {
            llm_budget on;
            $directive;
            llm_budget_key \$http_authorization;
$limits
            proxy_pass http://standin;
        }

END
    }

    return llm_conf(redis => $proxy->url() . ' timeout=300ms',
                    journal => '%%DIR%%/journal size=64k',
                    limit => ['all key=all usd=1000 per=lifetime'],
                    locations => <<"END");
$more
        location /llm/api/zone/ {
            llm_budget_api;
            llm_budget_store zone;
        }
END
}


sub fresh
{
    no_faults();
    $redis->cli('FLUSHALL');
    $standin->reset();
    truncate("$nginx->{dir}/usage.log", 0);
    $LLMBudget::MADE = 0;
}


# ... and with an empty zone.

sub restart
{
    fresh();
    $nginx->stop(title => 'nginx is started anew');
    $nginx->start_again();
}


sub call
{
    my ($path, %opt) = @_;

    my $key = $opt{key} // 'k1';

    return post_json($path . ($path eq '/v1/' ? '' : 'v1/')
                     . 'chat/completions', {
        model => $opt{model} // 'm-std', max_tokens => $opt{max_tokens} // 50,
        $opt{stream} ? (stream => JSON::PP::true()) : (),
        messages => [{ role => 'user', content => 'abcd' }] }, %opt,
        standin => $opt{standin} // 'out=3',
        headers => { Authorization => 'Bearer k1', 'X-Key' => $key });
}


sub journal_is_empty
{
    return !grep { -s $_ } glob("$nginx->{dir}/journal/*");
}


sub no_faults
{
    $proxy->set('pass');
}


# All scripts get that fault.

sub scripts
{
    my ($mode, $text) = @_;

    my $more = defined $text ? " $text" : '';

    return sub {
        $proxy->set("$mode match=EVALSHA$more");
        $proxy->set("+$mode match=EVAL$more");
    };
}
