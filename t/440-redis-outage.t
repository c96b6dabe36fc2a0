#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Whatever is wrong with Redis, "llm_budget_outage deny" refuses what is
# metered by it, at once and in the client's dialect, and nothing else; the
# provider gets nothing; calls in flight are charged exactly; the log stays
# readable; and all of it ends by itself when Redis is well again (T24, T64).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;
use Time::HiRes ();

use LLMBudget;
use LLMBudgetRedis;


need_module();
need_redis();

my %paths = ('/v1/chat/completions' => 'openai', '/v1/responses' => 'openai',
             '/v1/messages' => 'anthropic');

my $standin = start_standin();

# an own user, so that the tests can change him and still get in

my $redis = start_redis(appendonly => 1,
                        conf => ['user gw on >s3cret-1 ~* &* +@all']);
my $proxy = start_faults($redis);
my $login = 'user=gw password=s3cret-1 timeout=500ms';

my $nginx = start_nginx(workers => 1, conf => conf($redis->url()));


# -------------------------------------------------------- the server itself

outage('it was killed', sub { $redis->kill9() },
       sub { $redis->start_again() });

outage('it accepts, and never answers', sub { $redis->pause() },
       sub { $redis->resume() }, 'timed out');

outage('it is a replica', sub { $redis->cli('REPLICAOF', '127.0.0.1', 1) },
       sub { $redis->cli('REPLICAOF', 'NO', 'ONE') }, 'READONLY|is a replica');

outage('it has no memory', sub { $redis->cli(qw(CONFIG SET maxmemory 1)) },
       sub { $redis->cli(qw(CONFIG SET maxmemory 0)) }, 'OOM');

outage('its password has changed', \&other_password, \&right_password,
       'WRONGPASS');

outage('its password is wrong from the start',
       sub { other_password(); $nginx->reload(); }, \&right_password,
       'WRONGPASS');

outage('it does not allow scripts any more',
       sub { $redis->cli(qw(ACL SETUSER gw -eval -evalsha)) },
       sub { $redis->cli(qw(ACL SETUSER gw +@all)) }, 'NOPERM');


# ------------------------------------------------------------ keys of ours

outage('a key is of a wrong type',
       sub {
           $redis->cli('RENAME', 'llmb{-}:holds', 'saved');
           $redis->cli('SET', 'llmb{-}:holds', 'text');
       }, sub { $redis->cli('RENAME', 'saved', 'llmb{-}:holds') },
       'WRONGTYPE');

for my $name (qw(accounts holds due)) {

    # gone, as after a DEL, but here the operator has it

    outage("the key of the $name is lost (T64)",
           sub { $redis->cli('RENAME', "llmb{-}:$name", 'saved') },
           sub { $redis->cli('RENAME', 'saved', "llmb{-}:$name") }, 'LOST');
}


# ------------------------------------------------------- between it and us

$nginx->reload(conf($proxy->url()));
wait_for(sub { $nginx->workers() == 1 });

outage('it refuses connections', sub { $proxy->set('refuse') }, \&no_faults);

outage('it was away from the start',
       sub { $proxy->set('refuse'); $nginx->reload(); }, \&no_faults,
       'Connection refused');

outage('it loads its data', answer('-LOADING Redis is loading'), \&no_faults,
       'LOADING Redis is loading');

outage('it cannot save', scripts('reply', '-MISCONF cannot save'),
       \&no_faults, 'MISCONF');

outage('a script fails', scripts('reply', '-ERR Error running script'),
       \&no_faults, 'ERR Error running script');

outage('it is no Redis', sub { $proxy->set('garbage') }, \&no_faults);

outage('scripts answer garbage', scripts('garbage'), \&no_faults);

outage('replies end in the middle', scripts('reset_mid_reply'), \&no_faults);

outage('replies are lost', scripts('drop_reply'), \&no_faults);

outage('connections stall', scripts('stall'), \&no_faults, 'timed out');


# --------------------------------------------------------------- for ever

# What was deleted is not counted from zero, neither at once nor after a
# reload; when the operator has deleted the rest, it is.

{
    fresh();
    served('a call is served');
    wait_for(sub { ((ledger() // {})->{stat}{pending} // 1) == 0 });
    $redis->cli('DEL', map { "llmb{-}:$_" } qw(accounts holds due closed));

    is(call()->{status}, 503, 'without its keys a budget is not new');
    $nginx->reload();
    is(call()->{status}, 503, '... nor after a reload');
    is(api('ledger'), undef, '... nor does the ledger say it is');
    $redis->cli('DEL', 'llmb{-}:meta');
    $standin->reset();
    truncate("$nginx->{dir}/usage.log", 0);
    $LLMBudget::MADE = 0;
    served('the operator deletes the rest: it is new');
    balanced('... and counts');
}

unlike($nginx->log_text(), qr/s3cret/, 'the log has no password');
unlike($nginx->log_text(), qr/\[crit\]/, 'nothing was lost');

$nginx->stop();
$_->stop() for $proxy, $redis;
done_testing();


# One outage, from end to end: subs that make and end it, and a regex of the
# reason that the log has.

sub outage
{
    my ($title, $break, $heal, $reason) = @_;

    $reason //= '\S';


    local $Test::Builder::Level = $Test::Builder::Level + 1;

    subtest($title, sub {
        fresh();
        served('a call is served before');
        wait_for(sub { ((ledger() // {})->{stat}{pending} // 1) == 0 });

        # a stream that ends while Redis is away

        my $stream = call(no_read => 1, keep => 1, stream => \1,
                          standin => 'out=8; gap=40');

        ok(wait_for(sub { ((ledger() // {})->{stat}{pending} // 0) == 1 }),
           'a stream begins');

        wait_for(sub { $standin->stats()->{in_flight} == 1 });

        my $before = $standin->stats()->{requests};
        my $served = length($nginx->log_text());
        my $start = Time::HiRes::time();

        $break->();
        refused($_) for sort keys %paths;
        others($title);

        my @counts = parallel(2, \&hammer);

        is(join(' ', map { $_->{wrong} } @counts), '0 0',
           'all of many calls are refused');

        # a server that flaps says so once in a second

        my $log;

        wait_for(sub {
            $log = substr($nginx->log_text(), $served);
            return $log =~ /(?:is down|redis refused \w+): /;
        });

        my $elapsed = Time::HiRes::time() - $start;
        my @lines = grep { /\[(?!info|debug)\w+\].*llm_budget/ }
            split(/\n/, $log);

        cmp_ok(@lines / ($elapsed < 1 ? 1 : $elapsed), '<', 10,
               'with less than ten lines per second in the log')
            or diag(join("\n", @lines));
        like(join("\n", @lines), qr/(?:is down|refused \w+): [^\n]*(?:$reason)/,
             '... that say why');

        my $answer = send_raw([], sock => $stream->{sock});

        like($answer->{body}, qr/\[DONE\]\n\n\z/, 'the stream ends well');
        is($standin->stats()->{requests}, $before + 1,
           'the provider had nothing but the call that is not metered there');

        $heal->();
        ok(wait_for(sub { call()->{status} == 200 }, 8),
           'it is well again by itself');
        ok(wait_for(\&journal_is_empty, 8), 'nothing is left in the journal');
        balanced('the books agree', wait => 8);
        counted();
        lines_of_it();
    }) or diag(substr($nginx->log_text(), -1500));
}


sub refused
{
    my ($path) = @_;

    my $answer = call(path => $path);
    my $body = eval { JSON::PP::decode_json($answer->{body}) } // {};
    my $error = $body->{error} // {};

    is($answer->{status}, 503, "$path is refused");
    is($error->{code}, 'store_unavailable', '... with its code');
    is($error->{type}, $paths{$path} eq 'openai' ? 'server_error'
                                                 : 'api_error',
       '... and its type');
    is($body->{type} // '', $paths{$path} eq 'openai' ? '' : 'error',
       '... in its dialect');
    is(join(' ', map { $answer->{headers}{$_} // '-' } qw(x-should-retry
       x-llm-budget-outage x-llm-budget-code)),
       'true deny store_unavailable', '... with headers');
}


# What does not need this store keeps its answers.

sub others
{
    my $answer = get('/free/', uncounted => 1);

    is($answer->{status}, 200, 'what is not metered is served');

    $answer = call(path => '/zone/v1/chat/completions', model => 'm-free');
    is($answer->{status}, 200, '... and what is metered in the zone');
    is($answer->{headers}{'x-llm-budget-outage'}, undef,
       '... where nothing is away');
    is((api('zone/ledger') // {})->{stat}{pending}, 0,
       '... and whose ledger is there');
}


sub hammer
{
    my $end = Time::HiRes::time() + 0.3;
    my %count = (wrong => 0, all => 0);

    while (Time::HiRes::time() < $end) {
        $count{all}++;
        $count{wrong}++ if call()->{status} != 503;
        $count{wrong}++ if get('/free/', uncounted => 1)->{status} != 200;
        sleep_ms(10);
    }

    return \%count;
}


# Each call that was served was posted once, and no other.

sub counted
{
    my @served = grep { $_->{status} == 200 && $_->{store} eq 'redis' }
        usage_lines();
    my %ids = map { $_->{id} => 1 } usage_lines();
    my $stat = (wait_for(sub { ledger() }, 8) || {})->{stat};

    is(scalar(keys %ids), scalar(my @all = usage_lines()),
       'each line has its id');
    is($stat->{posted}, @served, 'what was served was posted, once');
    is($stat->{opened}, $stat->{posted} + $stat->{voided},
       '... and what was opened else was voided');
    is($stat->{expired}, 0, '... and nothing has expired');
}


# What the usage lines and the variables say.

sub lines_of_it
{
    my %seen;

    for my $line (usage_lines()) {
        $seen{join(' ', map { length($line->{$_} // '') ? $line->{$_} : '-' }
                   qw(status store outage verdict code))}++;
    }

    is(join(', ', sort keys %seen),
       '200 redis - allow -, 200 zone - allow -, '
       . '503 redis deny deny store_unavailable', 'so say the usage lines')
        or diag(explain(\%seen));

    my $file = "$nginx->{dir}/outage.log";
    my %vars = map { $_ => 1 } split(/\n/, read_file($file));

    is(join(', ', sort keys %vars),
       '200 - redis, 200 - zone, 503 deny redis', '... and the variables');
}


# ------------------------------------------------------------------- tools

sub conf
{
    my ($url) = @_;

    return llm_conf(
        redis => "$url $login",
        http => "    log_format outage '\$status \$llm_budget_outage "
            . "\$llm_budget_store';",
        server => '        access_log %%DIR%%/outage.log outage '
            . 'if=$llm_budget_store;',
        proxy => '            proxy_next_upstream off;',
        locations => <<'END');
        location /zone/ {
            llm_budget on;
            llm_budget_store zone;
            llm_budget_key $http_authorization;
            llm_budget_limit all key=all usd=1000 requests=1000000
                             per=lifetime;
            proxy_pass http://standin;
        }

        location /llm/api/zone/ {
            llm_budget_api;
            llm_budget_store zone;
        }

        location /free/ {
            return 200 "free\n";
        }
END
}


sub fresh
{
    $redis->cli('FLUSHALL');
    $standin->reset();
    truncate("$nginx->{dir}/$_", 0) for 'usage.log', 'outage.log';
    $LLMBudget::MADE = 0;
}


sub call
{
    my (%opt) = @_;

    my $path = $opt{path} // '/v1/chat/completions';
    my %body = (model => $opt{model} // 'm-std');

    if ($path =~ /responses/) {
        %body = (%body, input => 'abcd', max_output_tokens => 50);

    } else {
        %body = (%body, max_tokens => 50,
                 messages => [{ role => 'user', content => 'abcd' }]);
    }

    $body{model} = 'c-std' if $path =~ /messages/;
    $body{stream} = $opt{stream} if $opt{stream};

    return post_json($path, \%body, %opt, standin => $opt{standin} // 'out=3',
                     headers => { Authorization => 'Bearer k1' });
}


sub served
{
    my ($title) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok(wait_for(sub { call()->{status} == 200 }, 8), $title);
}


sub journal_is_empty
{
    return !grep { -s $_ } glob("$nginx->{dir}/journal/*");
}


sub other_password
{
    $redis->cli(qw(ACL SETUSER gw resetpass >s3cret-2));
    $redis->cli(qw(CLIENT KILL USER gw));
}


sub right_password
{
    $redis->cli(qw(ACL SETUSER gw resetpass >s3cret-1));
}


sub no_faults
{
    $proxy->set('pass');
}


# All commands get that answer.

sub answer
{
    my ($text) = @_;

    return sub { $proxy->set("reply $text") };
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
