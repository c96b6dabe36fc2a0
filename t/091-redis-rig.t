#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The Redis servers of the system tests, the cluster, the Sentinels and the
# proxy that fails as told do what t/lib/README says: seen with plain sockets,
# without the module.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Path ();
use Test::More;
use Time::HiRes ();

use LLMBudget;
use LLMBudgetRedis;


need_redis();

plan(skip_all => 'no python3') if system('python3 -c 0 2>/dev/null') != 0;

delete $ENV{LLMB_STORE};

my $count = "return redis.call('incrby', KEYS[1], ARGV[1])";
my $error = 'LLMBudgetRedis::Error';


# ------------------------------------------------------------- one server

{
    my $redis = start_redis();
    my $port = $redis->port();
    my $value = "a\r\n\0\x{e9}" x 50_000;

    is($redis->url(), "redis://127.0.0.1:$port", 'a server has its URL');
    is($redis->cli('SET', 'k', $value), 'OK', 'it takes a value');
    is($redis->cli('GET', 'k'), $value, 'and has it, byte by byte');
    is($redis->cli('GET', 'none'), undef, 'no value is undef');
    is($redis->cli('INCRBY', 'n', 7), 7, 'a number is one');
    is_deeply($redis->cli('EVAL', "return {1, {'a', {}}, 'b'}", 0),
              [1, ['a', []], 'b'], 'a list is a list of lists');

    my $wrong = $redis->try_cli('GET');

    isa_ok($wrong, $error, 'an error');
    like("$wrong", qr/^ERR wrong number/, '... has its text');
    ok(!eval { $redis->cli('GET'); 1 }, '... and dies unless it was tried');

    $redis->cli('HSET', 'llmb{-}:accounts', 'a', 'x');
    $redis->cli('ZADD', 'llmb{-}:due', '1790000000123', 'h1');
    is_deeply(ledger_dump($redis, 'llmb', '-'),
              { accounts => { a => 'x' }, due => { h1 => 1790000000123 },
                holds => undef, closed => undef, meta => undef },
              'the keys of a tag can be read as they are');

    # each process has a connection of its own

    my @strange = parallel(3, sub {
        my ($i) = @_;

        return join(' ', grep { $redis->cli('ECHO', "$i-$_") ne "$i-$_" }
                         1 .. 500);
    });

    is_deeply(\@strange, ['', '', ''], 'processes may share a server');

    my $pid = $redis->pid();

    $redis->pause();

    my $link = LLMBudgetRedis::Link->new($port);

    $link->{timeout} = 0.3;
    ok(!eval { $link->ask('PING'); 1 }, 'one that is paused takes a '
       . 'connection, and does not answer');
    like($@, qr/no answer/, '... nor ends it');
    $redis->resume();
    $link->{timeout} = 10;
    is($link->read(), 'PONG', 'once it goes on it does');

    $redis->stop();
    ok(!kill(0, $pid), 'one that is stopped is gone');
    ok(!eval { LLMBudgetRedis::Link->new($port); 1 }, '... and its port');

    $redis->start_again();
    is($redis->port(), $port, 'it starts again on its port');
    is($redis->cli('PING'), 'PONG', '... and answers there');
    is($redis->cli('DBSIZE'), 0, '... with nothing of what it had');
    $redis->stop();

    my $next = start_redis(port => $port);

    is($next->port(), $port, 'another may be given its port');
    $next->stop();
}


{
    my $redis = start_redis(appendonly => 1, unix => 1,
                            conf => ['maxmemory-policy noeviction',
                                     'databases 3']);

    $redis->cli('SET', 'k', 'kept');
    is(LLMBudgetRedis::Link->new(undef, $redis->unix_url() =~ s/^unix://r)
       ->ask('GET', 'k'), 'kept', 'a unix socket leads to the same server');
    is($redis->cli('CONFIG', 'GET', 'databases')->[1], 3,
       'lines of the configuration are in force');
    $redis->kill9();
    ok(!defined $redis->pid(), 'it was killed');
    $redis->start_again();
    is($redis->cli('GET', 'k'), 'kept', 'and what it was told survived');
    $redis->stop();

    my $only = start_redis(unix => 'only');

    like($only->url(), qr{^unix:/}, 'without a port the URL is the socket');
    is($only->cli('PING'), 'PONG', 'and leads to it');
    ok(!defined $only->port(), 'it has no port');
    is(start_faults($only)->connect()->ask('PING'), 'PONG',
       'nor need it for the proxy');
    $only->stop();
}


{
    my $redis = start_redis(password => 'p1');
    my $link = LLMBudgetRedis::Link->new($redis->port());

    like($link->ask('PING'), qr/^NOAUTH/, 'a password is wanted');
    like($link->ask('AUTH', 'p2'), qr/^WRONGPASS/, '... that one');
    is($redis->cli('PING'), 'PONG', '... which the rig knows');
    $redis->stop();

    $redis = start_redis(user => 'gw', password => 'p3',
                         rules => '~llmb* +@all');
    $link = LLMBudgetRedis::Link->new($redis->port());
    like($link->ask('AUTH', 'p3'), qr/^(?:WRONGPASS|ERR)/,
         'with a user nobody else gets in');
    is($link->ask('AUTH', 'gw', 'p3'), 'OK', '... and he does');
    is($redis->cli('SET', 'llmb1', 1), 'OK', '... where he may');
    like($redis->try_cli('SET', 'other', 1), qr/^NOPERM/, '... only');
    $redis->stop();
}


# -------------------------------------------------------------------- TLS

SKIP: {
    my $redis = eval { start_redis(tls => 1) };

    skip('redis-server has no TLS', 5) if $@ =~ /tls-port|Bad directive/i;
    die $@ unless $redis;

    my $ca = $redis->tls_file('ca.crt');
    my $other = $redis->tls_file('other.crt');

    like($redis->tls_url(), qr{^rediss://127\.0\.0\.1:\d+$},
         'a server with TLS has its URL');
    like(tls($redis, "-CAfile $ca"), qr/PONG/, 'its CA verifies it');
    unlike(tls($redis, "-CAfile $other"), qr/PONG/, 'another one does not');
    $redis->stop();

    $redis = start_redis(tls => 1, tls_clients => 1);
    $ca = $redis->tls_file('ca.crt');

    my $client = '-cert ' . $redis->tls_file('client.crt')
        . ' -key ' . $redis->tls_file('client.key');

    unlike(tls($redis, "-CAfile $ca"), qr/PONG/, 'clients may be asked');
    like(tls($redis, "-CAfile $ca $client"), qr/PONG/, '... to show theirs');
    $redis->stop();
}


# --------------------------------------------------------------- replicas

{
    my $master = start_redis(password => 'p');
    my $replica = start_redis(password => 'p', replica_of => $master);

    $master->cli('SET', 'k', 'v');
    is($master->cli('WAIT', 1, 5000), 1, 'a replica is told');
    is($replica->cli('GET', 'k'), 'v', '... and has it');
    like($replica->try_cli('SET', 'k', 'w'), qr/^READONLY/,
         '... and takes nothing itself');
    $_->stop() for $replica, $master;
}


# -------------------------------------------------------------- the proxy

{
    my $redis = start_redis();
    my $proxy = start_faults($redis);
    my $sha = $redis->cli('SCRIPT', 'LOAD', $count);
    my $link = $proxy->connect();

    like($proxy->url(), qr{^redis://127\.0\.0\.1:\d+$}, 'the proxy has an URL');
    isnt($proxy->port(), $redis->port(), '... of its own');

    # many at once, in order

    $link->write(join('', map { LLMBudgetRedis::Link::command('ECHO', $_) }
                      1 .. 500));
    is(join(' ', map { $link->read() } 1 .. 500), join(' ', 1 .. 500),
       'it passes a pipeline, in order');
    is($link->ask('ECHO', 'x' x 300_000), 'x' x 300_000,
       '... and what is long');
    is_deeply($link->ask('EVAL', "return {1, {'a', {}}, 'b'}", 0),
              [1, ['a', []], 'b'], '... and lists');

    my $stats = $proxy->stats();

    is("$stats->{commands} $stats->{forwarded} $stats->{replies} "
       . "$stats->{connections} $stats->{open} $stats->{scripts}",
       '502 502 502 1 1 1', 'it counts them');
    is_deeply($stats->{names}, { ECHO => 501, EVAL => 1 }, '... by name');
    $proxy->set('clear');
    is($proxy->stats()->{commands}, 0, '... anew when told');

    # lost after it was done

    $proxy->set('drop_reply 1');
    is($link->ask('PING'), 'PONG', 'a reply is dropped of scripts only');
    lost($link, 'a dropped reply', qr/lost/, 'EVALSHA', $sha, 1, 'd', 5);
    is($redis->cli('GET', 'd'), 5, '... but it was done');
    is($proxy->stats()->{dropped}, 1, '... and counted');
    $link = $proxy->connect();
    is($link->ask('EVALSHA', $sha, 1, 'd', 5), 10, '... and no other is');

    $proxy->set("drop_reply nth=2 match=$sha");
    is($link->ask('EVALSHA', $sha, 1, 'd', 1), 11, 'the first may be passed');
    is($link->ask('EVAL', $count, 1, 'd', 1), 12, '... and others');
    lost($link, '... and the second dropped', qr/lost/,
         'EVALSHA', $sha, 1, 'd', 1);
    is($redis->cli('GET', 'd'), 13, '... which was done');

    # and before

    $proxy->set('reset 1 match=EVALSHA');
    $link = $proxy->connect();
    is($link->ask('PING'), 'PONG', 'what does not match is passed');
    lost($link, 'a reset', qr/lost/, 'EVALSHA', $sha, 1, 'd', 1);
    is($redis->cli('GET', 'd'), 13, '... and it was not done');

    # half of it

    $redis->cli('SET', 'ten', '0123456789');

    for my $case (['reset_mid_reply', qr/lost.* after "012"$/],
                  ['truncate', qr/closed after "012"$/])
    {
        my ($mode, $want) = @$case;

        $proxy->set("$mode 1");
        $link = $proxy->connect();
        lost($link, $mode, $want, 'GET', 'ten');
        is($proxy->connect()->ask('GET', 'ten'), '0123456789', '... once');
    }

    # late

    $link = $proxy->connect();

    for my $mode ('delay', 'delay_reply') {
        $proxy->set("$mode 250 n=1 match=INCRBY");

        my $start = Time::HiRes::time();

        $link->write(LLMBudgetRedis::Link::command('INCRBY', $mode, 1));

        my $done = wait_for(sub {
            return $redis->cli('EXISTS', $mode)
                   && Time::HiRes::time() - $start;
        });

        is($link->read(), 1, "$mode: the reply comes");
        cmp_ok(Time::HiRes::time() - $start, '>=', 0.25, '... late');
        cmp_ok($done, '>=', 0.25, '... as the command was')
            if $mode eq 'delay';
        is($link->ask('INCRBY', $mode, 1), 2, '... and others as ever');
    }

    # late, and the client has left

    $proxy->set('delay 200 n=1');
    $link->write(LLMBudgetRedis::Link::command('SET', 'late', 1));
    close($link->{sock});
    ok(wait_for(sub { $redis->cli('EXISTS', 'late') }),
       'a command whose client has left is done all the same');

    # answers that the server did not give

    $proxy->set('reply n=2 match=SET -READONLY You can\'t write.');
    $link = $proxy->connect();
    $link->write(join('', map { LLMBudgetRedis::Link::command(@$_) }
        ['GET', 'ten'], ['SET', 'ten', 1], ['GET', 'ten'], ['SET', 'ten', 1],
        ['SET', 'eleven', 1]));
    is(join('|', map { $link->read() } 1 .. 5),
       "0123456789|READONLY You can't write.|0123456789|"
       . "READONLY You can't write.|OK", 'errors are answered, in order');
    is($redis->cli('GET', 'ten'), '0123456789', '... and nothing was done');
    $proxy->set('reply *2\r\n$1\r\na\x62\r\n:4\r\n');
    $link->write(LLMBudgetRedis::Link::command('PING'));
    is($link->line() . $link->line() . $link->line(), "*2\r\n\$1\r\nab\r\n",
       '... or any bytes');

    $proxy->set('garbage');
    $proxy->set('clear');

    my @junk;

    for (1 .. 9) {
        $link = $proxy->connect();
        $link->{timeout} = 0.5;
        eval { $link->ask('INCR', 'junk') };
        push @junk, ($@ =~ s/\s+\z//r) . $link->{rest};
    }

    is(scalar(grep { /not RESP|no answer/ } @junk), 8,
       'garbage is no answer, eight times of nine') or diag(explain(\@junk));
    is($redis->cli('EXISTS', 'junk'), 0, '... and nothing was done');

    # byte by byte

    $proxy->set('split 1');
    $link = $proxy->connect();
    $link->write(LLMBudgetRedis::Link::command('GET', 'ten'));

    my @sizes;

    while (length($link->{rest}) < 17) {
        my $before = length($link->{rest});

        $link->more();
        push @sizes, length($link->{rest}) - $before;
    }

    is($link->read(), '0123456789', 'a reply may come in pieces');
    cmp_ok(scalar(@sizes), '>', 4, '... many') or diag("@sizes");

    # not at all

    $proxy->set('stall match=INCR');
    $link = $proxy->connect();
    is($link->ask('PING'), 'PONG', 'all but what stalls is passed');
    $link->{timeout} = 0.3;
    ok(!eval { $link->ask('INCR', 'stalled'); 1 }, 'that is not answered');
    like($@, qr/no answer/, '... nor is the connection ended');
    ok(!eval { $link->ask('PING'); 1 }, '... and nothing after it is');
    is($redis->cli('EXISTS', 'stalled'), 0, '... and it was not done');
    is($proxy->connect()->ask('PING'), 'PONG', 'others are passed');
    close($link->{sock});

    $link = $proxy->connect();
    $proxy->set('refuse');
    ok(!eval { $link->ask('PING'); 1 }, 'one that refuses ends connections');
    ok(!eval { $proxy->connect(); 1 }, '... and takes no other');
    $proxy->set('pass');
    is($proxy->connect()->ask('PING'), 'PONG', '... until told to');

    # two rules; the first that matches is used

    $proxy->set('reply n=1 match=GET -ERR one');
    $proxy->set('+reply match=GET -ERR two');
    $link = $proxy->connect();
    is(join(' ', map { $link->ask(@$_) } ['GET', 1], ['GET', 1], ['PING']),
       'ERR one ERR two PONG', 'there may be more rules than one');

    # at random, but the same with the same seed

    my @faults;

    for my $seed (7, 7, 8) {
        my $text = '';

        $proxy->set("random seed=$seed p=0.3 kinds=reset,reply,drop_reply "
                    . 'match=INCR');

        for (1 .. 60) {
            my $answer = eval { $proxy->connect()->ask('INCR', 'random') };

            $text .= $@ ne '' ? 'x' : ref $answer ? '-' : '.';
        }

        push @faults, $text;
    }

    is($faults[1], $faults[0], 'random faults are those of their seed');
    isnt($faults[2], $faults[0], '... another seed has others');
    like($faults[0], qr/(?=.*x)(?=.*-).*\./, '... of all kinds');
    cmp_ok($faults[0] =~ tr/././, '>', 30, '... with their probability');

    for my $line ('none', 'reply ERR', 'delay x', 'random p=1 kinds=none',
                  'drop_reply 1 x')
    {
        ok(!eval { $proxy->set($line); 1 }, "\"$line\" is refused");
    }

    # a server that is gone

    $proxy->set('pass');
    $redis->kill9();
    ok(!eval { $proxy->connect()->ask('PING'); 1 },
       'without a server connections end');
    $redis->start_again();
    is($proxy->connect()->ask('PING'), 'PONG', '... and with it they are back');
    $_->stop() for $proxy, $redis;
}


# -------------------------------------------------------------- a cluster

{
    my $cluster = start_cluster(nodes => 3, replicas => 1,
                                node_timeout => 3000);
    my $key = 'llmb{t1}:accounts';
    my $slot = $cluster->slot_of($key);
    my $owner = $cluster->node_of($key);
    my ($other) = grep { $_ != $owner } $cluster->masters();

    is(scalar($cluster->nodes()), 6, 'a cluster has its nodes');
    is(scalar($cluster->masters()), 3, '... three of them masters');
    is(scalar(grep { m{^redis://127\.0\.0\.1:\d+$} } $cluster->urls()), 6,
       '... with their URLs');
    is($owner->cli('HSET', $key, 'a', 'x'), 1, 'a key is where it is said');
    is($other->try_cli('HGET', $key, 'a'),
       "MOVED $slot 127.0.0.1:" . $owner->port(), 'elsewhere it is MOVED');
    is($other->try_cli('EVAL', $count, 1, $key, 1), "MOVED $slot 127.0.0.1:"
       . $owner->port(), '... for scripts, too');
    is(ledger_dump($cluster, 'llmb', 't1')->{accounts}{a}, 'x',
       'the keys of a tag are found');

    $owner->cli('SET', 'llmb{t1}:meta', 1);
    $cluster->migrate_slot($slot, $owner, $other, keys => 1);
    is($owner->try_cli('EVAL', 'return redis.call("get", KEYS[2])', 2, $key,
                       'llmb{t1}:meta') =~ /^(\w+)/ && $1, 'TRYAGAIN',
       'keys that are here and there are TRYAGAIN');
    $cluster->move_keys($slot, $owner, $other);
    is($owner->try_cli('HGET', $key, 'a'),
       "ASK $slot 127.0.0.1:" . $other->port(), 'what has moved is ASK');
    like($other->try_cli('HGET', $key, 'a'), qr/^MOVED/,
         '... and is served to who asks for it only');

    my $link = $other->connect();

    is($link->ask('ASKING') . ' ' . $link->ask('HGET', $key, 'a'), 'OK x',
       '... by ASKING');

    $cluster->finish_slot($slot, $owner, $other);
    is($other->cli('HGET', $key, 'a'), 'x', 'then it is there');
    is($owner->try_cli('HGET', $key, 'a'),
       "MOVED $slot 127.0.0.1:" . $other->port(), '... for all');
    is($cluster->node_of($key), $other, '... and the rig knows');

    my $new = $cluster->failover($other);

    isnt($new, $other, 'a replica takes over');
    is($cluster->node_of($key), $new, '... the slots, too');
    is($new->cli('HGET', $key, 'a'), 'x', '... and the keys');
    like($other->try_cli('HSET', $key, 'a', 'y'), qr/^MOVED/,
         '... which the old one sends there');

    $new->kill9();
    ok(!defined $new->pid(), 'a master dies');
    is($cluster->failover($new, force => 1), $other, '... and is followed');
    $cluster->stop();
}


# -------------------------------------------------------------- Sentinels

{
    my $master = start_redis(password => 'p');
    my $replica = start_redis(password => 'p', replica_of => $master);
    my $sentinels = start_sentinels(master => $master, name => 'mymaster',
                                    password => 's');

    is(scalar($sentinels->urls()), 3, 'there are three Sentinels');
    is($sentinels->master_address(), '127.0.0.1:' . $master->port(),
       '... which know the master');
    like(LLMBudgetRedis::Link->new(($sentinels->nodes())[0]->port())
         ->ask('SENTINEL', 'MASTERS'), qr/^NOAUTH/,
         '... and want their password');

    $master->kill9();
    ok($sentinels->agree_on($replica), 'when it dies they agree on another');
    is($sentinels->master_address(), '127.0.0.1:' . $replica->port(),
       '... and say so');
    ok(wait_for(sub { $replica->cli('ROLE')->[0] eq 'master' }, 10),
       '... as it does itself');
    is($replica->cli('SET', 'k', 'v'), 'OK', '... and takes what comes');
    $_->stop() for $sentinels, $replica;
}


# ------------------------------------------------ what LLMB_STORE asks for

{
    my $redis = qr/^\s+llm_budget_redis redis:[^\n]*;$/m;
    my $journal = qr{^\s+llm_budget_journal %%DIR%%/journal;$}m;

    unlike(llm_conf(), qr/llm_budget_(?:redis|journal|store)/,
           'a configuration has no Redis');

    my $conf = llm_conf(redis => 'redis://h:1 db=2', outage => 'allow',
                        tag => '$arg_t', journal => '/j size=1m');

    like($conf, qr/^    llm_budget_redis redis:\/\/h:1 db=2;$/m,
         '... unless it is given');
    like($conf, qr/^        llm_budget_$_;$/m, "... and $_")
        for 'outage allow', 'redis_tag \$arg_t';
    like($conf, qr{^    llm_budget_journal /j size=1m;$}m, '... and journal');
    is(() = llm_conf(store => 'zone') =~ /llm_budget_store zone;/g, 2,
       'a store is of the location and of the API');

    local $ENV{LLMB_STORE} = 'redis';

    $conf = llm_conf();
    like($conf, $redis, 'LLMB_STORE=redis: a configuration has it');
    like($conf, $journal, '... with its journal');
    unlike($conf, qr/llm_budget_store/, '... and the default store');
    is(llm_conf(), $conf, '... the same each time');
    unlike(llm_conf(store => 'zone'), $redis, '... unless it names the zone');

    my $store = LLMBudgetRedis::default_store();

    $store->cli('SET', 'k', 1);
    LLMBudgetRedis::fresh();
    is($store->cli('DBSIZE'), 0, '... and it can be emptied');

    SKIP: {
        skip('no nginx', 6) unless defined find_nginx();

        my %plain = (module => '', conf => "http {\n    server {\n        "
                     . "listen 127.0.0.1:%%PORT%%;\n    }\n}\n");

        $store->cli('SET', 'k', 1);
        start_nginx(%plain, shared => 1)->stop();
        is($store->cli('DBSIZE'), 1, '... as nginx does not if it is shared');

        my $nginx = start_nginx(%plain);

        is($store->cli('DBSIZE'), 0, '... and does at each other start');
        $store->cli('SET', 'k', 1);
        $nginx->reload();
        $nginx->stop();
        $nginx->start_again();
        is($store->cli('DBSIZE'), 1, '... but for a reload or start_again()');
        $nginx->stop();
    }

    my ($code, $text) = child('need_zone_store(); ok(1); done_testing();');

    is("$code $text", "0 1..0 # SKIP the store in the zone is its subject, and "
       . "LLMB_STORE=redis\n", 'a file about the zone is skipped');

    local $ENV{LLMB_STORE} = 'cluster';

    ($code, $text) = child('print llm_conf(); need_zone_store();');
    like($text, qr/^\s+llm_budget_redis (?:redis:\S+ ){3}cluster /m,
         'LLMB_STORE=cluster: there are three URLs');

    local $ENV{LLMB_STORE} = 'none';

    ok(!eval { llm_conf(); 1 }, 'another value is refused');

    delete $ENV{LLMB_STORE};
    ($code, $text) = child('need_zone_store(); ok(1); done_testing();');
    is("$code $text", "0 ok 1\n1..1\n", 'without it that file runs');
}


# ----------------------------------------------- nothing is left behind

for my $case (['that ends', ''], ['that dies', 'die "so";'],
              ['that is killed', 'kill "KILL", $$;'])
{
    my ($what, $end) = @$case;
    my ($code, $text) = child('
        use LLMBudgetRedis;
        my $redis = start_redis(tls => 1);
        my $proxy = start_faults($redis);
        my $paused = start_redis();
        $paused->pause();
        print join(" ", map { $_->pid() } $redis, $proxy, $paused);
        STDOUT->flush();
        ' . $end);
    my @pids = split(' ', $text);

    is(scalar(@pids), 3, "a test $what") or diag($text);
    ok(wait_for(sub { !alive(@pids) }), '... leaves no process behind')
        or diag(join(' ', alive(@pids)));
    File::Path::remove_tree(
        glob("$LLMBudget::BUILD/servroot/rig-$$.pl-*"));
}

done_testing();


# A command whose connection ends before its answer.

sub lost
{
    my ($link, $what, $how, @args) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $answer = eval { $link->ask(@args) };

    like($@, $how, "$what: the connection ends") or diag($answer);
}


# What a server says to PING over TLS, or openssl.

sub tls
{
    my ($server, $options) = @_;

    my ($port) = $server->tls_url() =~ /(\d+)$/;

    # the server ends the connection: openssl does not by the end of its input

    return qx{printf 'PING\\r\\nQUIT\\r\\n' 2>/dev/null | timeout 10 \\
        openssl s_client -connect 127.0.0.1:$port -quiet \\
        -verify_return_error -verify_ip 127.0.0.1 $options 2>&1};
}


# Those that run; one that nobody has waited for does not.

sub alive
{
    return grep { (read_file("/proc/$_/stat") // ' Z ') !~ /\) Z | Z $/ } @_;
}


# Another test file of that text: ($?, its standard output).

sub child
{
    my ($text) = @_;

    my $script = write_file("$LLMBudget::BUILD/servroot/rig-$$.pl",
                            "use Test::More; use LLMBudget; $text");
    my $said = qx{"$^X" "-I$FindBin::Bin/lib" "$script" 2>/dev/null};
    my $code = $?;

    unlink($script);

    return ($code, $said);
}
