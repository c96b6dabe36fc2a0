#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A Redis Cluster (T26): tags are on their nodes, slots move under load, a node
# dies and its tags alone are refused; what a tag may be, and which limits it
# allows; then where in one server the keys are, and the rights that nginx's
# user needs, those of the README.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;
use LLMBudgetRedis;


need_module();
need_redis();
start_standin();

my $readme = read_file(root() . '/README.md');
my ($user) = $readme =~ /^ {4}(user llm on .+(?:\n {5,}\S.*)*)/m;
my $made = 0;
my %tags;

$user =~ s/\n\s*/ /g;

configuration();
cluster();
one_server();
done_testing();


# ------------------------------------------------------------ the cluster

sub cluster
{
    my $cluster = start_cluster(nodes => 3, replicas => 1, appendonly => 1,
        node_timeout => 60000,
        conf => ["$user +cluster|slots +asking",
                 'cluster-require-full-coverage no']);
    my ($first, $second) = $cluster->nodes();
    my $dead = free_port();
    my %on;                             # a tag of each master

    for my $i (1 .. 1000) {
        $on{$cluster->node_of("llmb{t$i}:meta")->port()} //= "t$i";
        last if keys %on == 3;
    }

    my $nginx = start_nginx(conf => conf("redis://127.0.0.1:$dead "
        . 'redis://localhost:' . $second->port() . ' cluster user=llm '
        . 'password=password timeout=3s connect_timeout=3s'));

    is(call('first')->{status}, 200,
       'one of the addresses is dead, and the other a name');

    spread($cluster, %on);
    odd_tags($cluster);
    moves($cluster, $on{$first->port()});
    dies($cluster, $nginx, %on);
    takes_over($cluster, \%on);

    is(() = $nginx->log_text() =~ /NOPERM/g, 0,
       'the rights of the README are enough');
    $nginx->stop();
    $cluster->stop();
}


sub spread
{
    my ($cluster, %on) = @_;

    for my $tag (values %on) {
        is(call($tag)->{status}, 200, "a call of tag $tag") for 1 .. 2;
    }

    books('each budget is counted');

    for my $node ($cluster->masters()) {
        my $tag = $on{$node->port()};
        my @keys = grep { !/\{first\}/ } @{$node->cli('KEYS', '*')};

        is(join(' ', sort @keys), join(' ', map { "llmb\{$tag}:$_" }
               qw(accounts closed due holds meta)),
           "its keys are on its node");
    }

    is(by_tag('first')->{stat}{opened}, 1, 'the API reads the tag it is told');
    is(ledger()->{stat}{opened}, 0, '... and none, the empty one');
    is(ledger(headers => { 'X-Tag' => 'first' })->{stat}{opened}, 1,
       '... or that of its headers');
}


# ------------------------------------------------------------------- tags

sub odd_tags
{
    my ($cluster) = @_;

    my @tags = ('', '-', 'a b', 'a  b', '{a}', 'a{b}', '}{', '{}', "\xff\xfe",
                'a,b;"c"', '*', 'Case', 'case', 'x' x 64, 'x' x 65,
                'x' x 200, 'h:' . '0' x 32, 'first}:accounts', '$http_x_tag');

    odd_tag($_) for @tags;

    # what stands for another tag

    my ($hashed) = map { /\{(h:\w{32})\}:meta$/ }
        map { @{$_->cli('KEYS', '*:meta')} } $cluster->masters();

    odd_tag($hashed);
    books('the books of odd tags agree');
}


sub odd_tag
{
    my ($tag) = @_;

    is(call($tag)->{status}, 200, 'a call of tag "' . printable($tag) . '"');

    my $ledger = ledger(headers => { 'X-Tag' => $tag });

    is($ledger->{stat}{opened}, 1, '... is alone in its part');
    is(scalar(@{$ledger->{accounts}}), 1, '... with its account');
}


sub printable
{
    return (length($_[0]) > 40 ? substr($_[0], 0, 5) . ' x ' . length($_[0])
                               : $_[0]) =~ s/[^ -~]/?/gr;
}


# ---------------------------------------------------- slots that are moved

sub moves
{
    my ($cluster, $tag) = @_;

    my $slot = $cluster->slot_of("llmb\{$tag}:meta");
    my $from = $cluster->node_of($slot);
    my ($to) = grep { $_ != $from } $cluster->masters();
    my $flag = "$LLMBudget::NGINX->{dir}/moved";

    my @results = parallel(4, sub {
        my ($i) = @_;
        my %count;

        if ($i == 0) {
            eval {
                for my $pair ([$from, $to], [$to, $from], [$from, $to]) {
                    move_slowly($cluster, $slot, $tag, @$pair);
                }
            };
            write_file($flag, $@);
            return { made => 0, error => $@ };
        }

        do {
            $count{call($tag)->{status}}++;
            $made--;
        } until -e $flag;

        return \%count;
    });

    is((shift @results)->{error}, '', 'a slot was moved, back, and again');

    my $calls = 0;

    for my $i (0 .. $#results) {
        $calls += $results[$i]{200} // 0;
        is(join(' ', keys %{$results[$i]}), 200,
           "all calls of process $i were served meanwhile");
    }

    $made += $calls;
    cmp_ok($calls, '>', 10, '... many');
    books('no cost was lost on the way');
    is($to->cli('EXISTS', "llmb\{$tag}:meta"), 1, '... and it is there now');
    is(call($tag)->{status}, 200, '... for all calls that follow');

    # a tag that has no keys yet, while its slot moves: nobody can serve it

    my ($new) = grep { $cluster->node_of("llmb\{$_}:meta") == $from }
        map { "new$_" } 1 .. 1000;

    $slot = $cluster->slot_of("llmb\{$new}:meta");
    $cluster->migrate_slot($slot, $from, $to, keys => 'none');

    my $answer = call($new);

    is($answer->{status}, 503, 'a first call in a slot on its way is refused');
    is($answer->{headers}{'x-llm-budget-outage'}, 'deny', '... by the policy');
    is(call($tag)->{status}, 200, '... it alone');
    $cluster->finish_slot($slot, $from, $to);
    is(call($new)->{status}, 200, '... and served when it has arrived');
    books('the books agree after the moves');
}


# Each step of a move, with calls in between.

sub move_slowly
{
    my ($cluster, $slot, $tag, $from, $to) = @_;

    my $pause = sub {
        my ($node) = @_;
        my $name = 'llmb{' . $tag . '}:meta';
        my $link = $node->connect();

        $link->ask('ASKING');

        my $opened = $link->ask('HGET', $name, 'opened');

        wait_for(sub {
            $link->ask('ASKING');
            return $link->ask('HGET', $name, 'opened') >= $opened + 5;
        }) or die "no calls are served\n";
    };

    $cluster->migrate_slot($slot, $from, $to, keys => 'none');
    $pause->($from);
    $cluster->move_keys($slot, $from, $to, 2);
    $cluster->move_keys($slot, $from, $to);
    $pause->($to);
    $cluster->finish_slot($slot, $from, $to);
    $pause->($to);
}


# ------------------------------------------------------ a node that is away

sub dies
{
    my ($cluster, $nginx, %on) = @_;

    my $node = $cluster->node_of("llmb\{first}:meta");
    my @others = map { $on{$_->port()} } grep { $_ != $node }
        $cluster->masters();
    my $port = $node->port();

    $node->kill9();
    is(call('first')->{status}, 503, 'a node dies: its tags are refused')
        for 1 .. 3;

    for my $tag (map { @others } 1 .. 3) {
        is(call($tag)->{status}, 200, '... others are served');
    }

    is(() = $nginx->log_text() =~ /\Qredis 127.0.0.1:$port is down: \E/g, 1,
       '... the log says so');
    $node->start_again();
    ok(wait_for(sub { call('first')->{status} == 200 }, 10),
       'it is back: they are served');
    ok(wait_for(sub { $nginx->log_text() =~ /127\.0\.0\.1:$port is up again/ }),
       '... the log says so');
    books('the books agree after a restart');
}


sub takes_over
{
    my ($cluster, $on) = @_;

    my $node = $cluster->node_of("llmb\{first}:meta");
    my ($replica) = grep {
        $_->cli('INFO', 'replication') =~ /^master_port:$node->{port}\r?$/m
    } $cluster->replicas();

    # a call in flight while it dies

    my ($answer, undef) = parallel(2, sub {
        my ($i) = @_;

        return call('first', 'out=20; delay=1000') if $i == 0;

        wait_for(sub { by_tag('first')->{stat}{pending} == 1
                       && in_step($node, $replica) })
            or die "no call is in flight\n";
        kill('KILL', $node->pid());
    });

    $made++;
    is($answer->{status}, 200, 'a call is served to its end');
    $node->kill9();
    is(call('first')->{status}, 503, '... but the next one is not');
    $cluster->failover($node, force => 1);
    ok(wait_for(sub { call('first')->{status} == 200 }, 10),
       'the replica takes over: the tag is served');
    books('... and nothing was lost');

    $node->start_again();
    ok(wait_for(sub { $node->cli('ROLE')->[0] eq 'slave' }, 10),
       'the old one is a replica now');
    is(call($_)->{status}, 200, '... and all tags are served')
        for 'first', values %$on;
    books('the books of all agree');
}


sub in_step
{
    my ($master, $replica) = @_;

    my @offsets = map {
        $_->cli('INFO', 'replication') =~ /^master_repl_offset:(\d+)/m
    } $master, $replica;

    return $offsets[0] == $offsets[1];
}


# ------------------------------------------------------------- one server

sub one_server
{
    my $redis = start_redis(unix => 1, conf => ["$user +select"]);
    my $url = $redis->unix_url();
    my %keys;

    for my $case (['db=3', 3, 'llmb{-}'], ['db=0 prefix=a.b-c:D_1', 0,
                                          'a.b-c:D_1{-}'],
                  ['prefix=', 0, '{-}'])
    {
        my ($args, $db, $prefix) = @$case;

        $LLMBudget::STANDIN->reset();

        my $nginx = start_nginx(conf => llm_conf(
            redis => "$url $args timeout=3s"));

        is(call('')->{status}, 200, "$args: a call over a socket");

        my $link = $redis->connect();

        $link->ask('SELECT', $db);
        is(join(' ', sort @{$link->ask('KEYS', "$prefix*")}),
           join(' ', map { "$prefix:$_" } qw(accounts closed due holds meta)),
           '... its keys are where they should be');
        balanced('... and its books agree', lines => 1);
        $link->ask('FLUSHALL');
        $nginx->stop();
    }

    rights($redis);
    $redis->stop();
}


# Each of the README's commands is needed, and no other.

sub rights
{
    my ($redis) = @_;

    $made = 0;
    $redis->cli('SCRIPT', 'FLUSH');
    $redis->cli('CONFIG', 'RESETSTAT');
    $LLMBudget::STANDIN->reset();

    my $nginx = start_nginx(conf => llm_conf(redis => $redis->unix_url()
        . ' user=llm password=password db=1 timeout=3s keep=1s',
        limit => ['all key=all usd=1000 per=lifetime',
                  'few key=$http_x_few requests=3 per=year',
                  'rate key=all requests=100 per=minute'],
        location => '            llm_budget_hold_timeout 2s;'));

    is(call('', 'out=20', 'X-Few' => 1)->{status}, 200, 'a user of few rights')
        for 1 .. 3;
    is(call('', 'out=20', 'X-Few' => 1)->{status}, 429, '... is refused');
    is(call('', 'status=500')->{status}, 500, '... is given back its money');

    my $answer = post_json('/v1/chat/completions',
        { model => 'm-std', stream => JSON::PP::true(),
          messages => [{ role => 'user', content => 'abcd' }] },
        headers => { Authorization => 'Bearer k' },
        standin => 'out=30; gap=100');

    $made++;
    is($answer->{status}, 200, '... makes a call longer than a hold');
    ok(wait_for(sub { (ledger()->{stat}{holds} // 9) == 0 }),
       '... closed holds are forgotten');
    balanced('the books agree with few rights', lines => $made);

    my %used = map { lc($_) => 1 }
        $redis->cli('INFO', 'commandstats') =~ /^cmdstat_([^:]+):/mg;
    my @given = sort map { /^\+(\S+)$/ ? $1 : () } split(/ /, $user), '+select';

    is(join(' ', grep { !$used{$_} } @given), '',
       'each right of the README is made use of');
    is(join(' ', map { @$_ } @{$redis->cli('ACL', 'LOG')}), '',
       '... and no other is missed');

    # without INFO, as the README says

    $nginx->stop();
    $redis->cli('ACL', 'SETUSER', 'llm', '-info');
    $nginx->start_again();
    is(call('')->{status}, 200, 'without +info calls are served');
    like($nginx->log_text(), qr/could not be read, INFO is refused/,
         '... and the log tells');

    # a right that is missing is an outage

    for my $case (['-hset', '+hset', qr/is down: .*can't run/],
                  ['-evalsha', '+evalsha', qr/is down: NOPERM .*evalsha/],
                  ['resetkeys', '~llmb{*', qr/is down: NOPERM .* keys/])
    {
        my ($without, $with, $line) = @$case;

        wait_for(sub { (ledger()->{stat}{pending} // 1) == 0 });
        $redis->cli('ACL', 'SETUSER', 'llm', $without);
        is(call('')->{status}, 503, "$without: calls are refused");
        ok(wait_for(sub { call('') && $nginx->log_text() =~ $line }),
           '... and the log tells') or diag($nginx->log_tail());
        $redis->cli('ACL', 'SETUSER', 'llm', $with);
        ok(wait_for(sub { call('')->{status} == 200 }, 10),
           "$with: they are served");
        ok(wait_for(sub { $nginx->log_text() =~ /$line.*is up again/s }),
           '... and the log tells');
    }

    balanced('the books agree after that', lines => $made);
    unlike($nginx->log_text(), qr/password/, 'no password is in the log');
    $nginx->stop();
}


# ---------------------------------------------------------- configuration

sub configuration
{
    my $one = 'redis://127.0.0.1:9 cluster';

    for my $case (
        ['$http_x', 'l key=$http_x usd=1'],
        ['$http_x', 'l key=a${http_x}b usd=1'],
        ['a${http_x}b', 'l key=$http_x usd=1'],
        ['$HTTP_x', 'l key=$http_X usd=1'],
        ['$http_x:$http_y', 'l key=$http_y/$http_x usd=1'],
        ['$http_x$http_x', 'l key=$http_x usd=1'],
        ['all', 'l key=all usd=1', 'm usd=1'],
        ['$llm_budget_key_id', 'l usd=1'],
        ['$llm_budget_key_id', 'l key=$llm_budget_key_id usd=1'],
        ['$http_x', 'l key=$http_x usd=1', 'm key=$http_x:all usd=1'])
    {
        my ($tag, @limits) = @$case;
        my ($pass, $text) = check_conf(llm_conf(redis => $one, tag => $tag,
                                                limit => \@limits));

        ok($pass, "tag $tag: limits @limits") or diag($text);
    }

    for my $case (
        ['l', 'http_x', '$http_x', 'l usd=1'],
        ['l', 'http_x', '$http_x', 'l key=all usd=1'],
        ['l', 'http_x', '$http_x', 'l key=$http_x_y usd=1'],
        ['l', 'http_x_y', '$http_x_y', 'l key=$http_x usd=1'],
        ['l', 'http_x', '${http_x}', 'l key=${http_y} usd=1'],
        ['l', 'http_x', '${http_x}', 'l key=http_x usd=1'],
        ['l', 'http_y', '$http_x:$http_y', 'l key=$http_x usd=1'],
        ['m', 'http_x', 'a$http_x', 'l key=$http_x usd=1', 'm usd=1'],
        ['l', 'llm_budget_key_id', '$llm_budget_key_id', 'l key=all usd=1'],
        ['m', 'llm_budget_key_id', '$llm_budget_key_id', 'l usd=1',
         'm key=$http_x usd=1'])
    {
        my ($name, $variable, $tag, @limits) = @$case;
        my ($pass, $text) = check_conf(llm_conf(redis => $one, tag => $tag,
                                                limit => \@limits));
        my $want = "llm_budget: limit \"$name\" would be counted anew for "
            . "each value of llm_budget_redis_tag \"$tag\": its key= must "
            . "contain \"\$$variable\", or the tag must not in ";

        ok(!$pass, "tag $tag: limits @limits are refused");
        like($text, qr{\[emerg\] .*\Q$want\E\S+/nginx\.conf:\d+$}m,
             '... and it says why');
    }

    my ($pass, $text) = check_conf(llm_conf(redis => $one, store => 'zone',
        tag => '$http_x', limit => 'l usd=1'));

    ok($pass, 'a tag says nothing of a store in the zone') or diag($text);
    ($pass, $text) = check_conf(llm_conf(redis => $one, http =>
        'llm_budget_redis_tag $http_x;', tag => 'all', limit => 'l usd=1'));
    ok($pass, 'a tag replaces that of the level above') or diag($text);
}


sub conf
{
    my ($redis) = @_;

    return llm_conf(redis => $redis, tag => '$http_x_tag',
        limit => ['all key=t$http_x_tag usd=1000 per=lifetime'],
        locations => <<'END');
        location /llm/tag/ {
            llm_budget_api;
            llm_budget_redis_tag $arg_tag;
        }
END
}


# --------------------------------------------------------------- the calls

sub call
{
    my ($tag, $standin, %headers) = @_;

    my $answer = post_json('/v1/chat/completions',
        { model => 'm-std', messages => [{ role => 'user',
                                           content => 'abcd' }] },
        headers => { Authorization => 'Bearer k', 'X-Tag' => $tag, %headers },
        standin => $standin // 'out=20');

    $made++;
    $tags{$tag} = 1;

    return $answer;
}


sub by_tag
{
    my ($tag) = @_;

    my $answer = get("/llm/tag/ledger?tag=$tag");

    return JSON::PP->new()->decode($answer->{body});
}


# What balanced() wants, over all tags that there were calls of.

sub books
{
    my ($title) = @_;

    my (@ledgers, @usage, $stats);
    my ($spent, $pending, $held, $cost) = (0, 0, 0, 0);

    wait_for(sub {
        @usage = usage_lines();
        $stats = $LLMBudget::STANDIN->stats();
        @ledgers = map { ledger(headers => { 'X-Tag' => $_ }) // {} }
            sort keys %tags;

        return @usage >= $made && !grep { $_->{stat}{pending} // 1 } @ledgers;
    }, 10);

    for my $ledger (@ledgers) {
        $spent += spent($ledger);
        $pending += $ledger->{stat}{pending} // 1;
        $held += $_->{held} for @{$ledger->{accounts}};
    }

    $cost += $_->{cost_nusd} // 0 for @usage;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    subtest($title, sub {
        is($pending, 0, 'no hold is pending');
        is($held, 0, 'no account holds anything');
        is(scalar(@usage), $made, 'every request has its usage line');
        is($spent, $stats->{billed_nusd}, 'the ledger is what was billed');
        is($cost, $stats->{billed_nusd}, 'the usage log is what was billed');
    });
}
