#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The directives of the Redis store: what "nginx -t" says of each, accepted
# where right, refused where wrong with a message that names the value and
# never a password; and what a location inherits.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();

my %files = (
    'password' => "pass word \n",
    'empty' => "\n",
    'long' => 'p' x 5000,
    'plain' => 'not a folder',
    map { $_ => pem($_) } qw(ca.pem key.pem),
);

my $redis = 'redis://127.0.0.1:9';
my $tls = 'rediss://127.0.0.1:9';
my $usd = 'llm_budget_limit l usd=1;';
my $is = '"llm_budget_redis" directive';


# [ title, where => text ..., what nginx says; nothing: it passes ]
#
# redis: arguments of llm_budget_redis; journal: those of llm_budget_journal;
# '' of both: none.  where: http, server, loc; plain: not metered

my @cases = (

    # llm_budget_redis: addresses

    [ 'llm_budget_redis works with an address', redis => $redis ],
    [ 'llm_budget_redis works with TLS', redis => $tls ],
    [ 'llm_budget_redis works with a socket', redis => 'unix:/tmp/none.sock' ],
    [ 'llm_budget_redis works without a port', redis => 'redis://127.0.0.1' ],
    [ 'llm_budget_redis works with IPv6', redis => 'redis://[::1]:9/1' ],
    [ 'llm_budget_redis works with all of a URL',
      redis => 'redis://u:p%40ss@127.0.0.1:9/3' ],
    [ 'llm_budget_redis works with a password alone',
      redis => 'redis://:p@127.0.0.1:9' ],
    [ 'llm_budget_redis works with a cluster',
      redis => "$redis redis://127.0.0.2:9 cluster" ],
    [ 'llm_budget_redis works with Sentinels',
      redis => "$redis redis://127.0.0.2:9 sentinel=m" ],
    [ 'llm_budget_redis works with all parameters of one server',
      redis => "$redis user=u password=p db=5 timeout=50ms "
               . 'connect_timeout=1s connections=16 prefix=a.b-c:D_1 '
               . 'keep=2h' ],
    [ 'llm_budget_redis works with all parameters of Sentinels',
      redis => "$tls sentinel=m user=u password=file:password db=2 "
               . 'sentinel_user=s sentinel_password=file:password' ],
    [ 'llm_budget_redis works with all parameters of TLS',
      redis => "$tls ca=ca.pem verify=on name=redis.internal "
               . 'certificate=ca.pem certificate_key=key.pem' ],
    [ 'llm_budget_redis works without verification',
      redis => "$tls verify=off" ],
    [ 'llm_budget_redis works with an empty prefix',
      redis => "$redis prefix=" ],
    [ 'llm_budget_redis may stand below the server', redis => '',
      journal => '', loc => "$usd llm_budget_store redis;",
      last => "llm_budget_redis $redis; llm_budget_journal %%DIR%%/journal;" ],

    [ 'llm_budget_redis wants an argument', redis => ' ',
      'invalid number of arguments in "llm_budget_redis"' ],
    [ 'llm_budget_redis wants an address', redis => 'cluster',
      "$is has "
      . 'no address: give redis://HOST, rediss://HOST or unix:PATH' ],
    [ 'llm_budget_redis is refused twice', redis => $redis,
      http => "llm_budget_redis $redis;",
      '"llm_budget_redis" directive is duplicate' ],
    [ 'llm_budget_redis is refused in a server',
      server => "llm_budget_redis $redis;",
      '"llm_budget_redis" directive is not allowed here' ],
    [ 'several addresses are of something', redis => "$redis $redis",
      "$is has "
      . 'several addresses: they are of a "cluster", or of sentinels: '
      . '"sentinel=NAME"' ],
    [ 'there are up to 16 addresses',
      redis => join(' ', ($redis) x 17, 'cluster'),
      'llm_budget_redis takes 16 addresses at most' ],
    [ 'a cluster has no Sentinels', redis => "$redis cluster sentinel=m",
      "$is cannot have" . ' both "cluster" and "sentinel="' ],
    [ 'cluster is given once', redis => "$redis cluster cluster",
      'duplicate parameter "cluster"' ],
    [ 'a socket is of one server', redis => 'unix:/tmp/none.sock cluster',
      '"unix:/tmp/none.sock" is for one server, not for a cluster or '
      . 'sentinels' ],
    [ 'a socket has an absolute path', redis => 'unix:none.sock',
      '"unix:none.sock" has no absolute path of a socket' ],
    [ 'all addresses have TLS, or none', redis => "$redis $tls cluster",
      "$is has "
      . 'addresses with and without TLS: they are all redis:// or all '
      . 'rediss://' ],
    [ 'an address has a host', redis => 'redis://:9/1',
      'invalid host in the address ":9" of llm_budget_redis' ],
    [ 'an address has a port that exists', redis => 'redis://127.0.0.1:99999',
      'invalid port in the address "127.0.0.1:99999" of llm_budget_redis' ],
    [ 'an address has a database that is a number', redis => "$redis/x",
      'invalid database "x" in the address "127.0.0.1:9" of '
      . 'llm_budget_redis: it is a number' ],
    [ 'a name that cannot be found is refused',
      redis => 'redis://no-such-host.invalid',
      'host not found in the address "no-such-host.invalid" of '
      . 'llm_budget_redis' ],
    [ 'unless a resolver may find it later',
      redis => 'redis://no-such-host.invalid',
      http => 'resolver 127.0.0.1:9;' ],

    # llm_budget_redis: parameters

    [ 'a parameter is known', redis => "$redis retries=3",
      'unknown parameter "retries" of llm_budget_redis: addresses begin with '
      . 'redis://, rediss:// or unix:' ],
    [ 'a parameter is given once', redis => "$redis db=1 db=2",
      'duplicate parameter "db=" of llm_budget_redis' ],
    [ 'a parameter is not empty', redis => "$redis user=",
      'parameter "user=" of llm_budget_redis is empty' ],
    [ 'timeout= is a time', redis => "$redis timeout=soon",
      'invalid timeout "soon" of llm_budget_redis: it is a time from 1ms to '
      . '60s' ],
    [ 'timeout= is not 0', redis => "$redis timeout=0",
      'invalid timeout "0" of llm_budget_redis' ],
    [ 'timeout= is no hour', redis => "$redis timeout=1h",
      'invalid timeout "1h" of llm_budget_redis' ],
    [ 'connect_timeout= is a time', redis => "$redis connect_timeout=-1",
      'invalid connect_timeout "-1" of llm_budget_redis: it is a time from '
      . '1ms to 60s' ],
    [ 'keep= is a time', redis => "$redis keep=x",
      'invalid keep "x" of llm_budget_redis' ],
    [ 'connections= has bounds', redis => "$redis connections=17",
      'invalid connections "17" of llm_budget_redis: it is a number from 1 '
      . 'to 16' ],
    [ 'connections= is not 0', redis => "$redis connections=0",
      'invalid connections "0" of llm_budget_redis' ],
    [ 'db= is a number', redis => "$redis db=one",
      'invalid db "one" of llm_budget_redis: it is a number from 0 to '
      . '65535' ],
    [ 'a database is said once', redis => "$redis/1 db=1",
      "$is has " . 'a database both in an address and as db=' ],
    [ 'a cluster has database 0', redis => "$redis cluster db=1",
      "$is cannot have" . ' a database other than 0 in a cluster' ],
    [ 'a Sentinel has no database', redis => "$redis/1 sentinel=m",
      "$is has " . 'a database in the address of a sentinel: use db=' ],
    [ 'prefix= has plain characters', redis => "$redis prefix=a*b",
      'invalid prefix "a*b" of llm_budget_redis' ],
    [ 'prefix= has a length', redis => "$redis prefix=" . 'p' x 33,
      'invalid prefix "' . 'p' x 33 . '" of llm_budget_redis' ],
    [ 'sentinel_password= needs Sentinels',
      redis => "$redis sentinel_password=p",
      "$is has "
      . 'sentinel_user= or sentinel_password= without "sentinel=NAME"' ],
    [ 'a cluster has no use for sentinel_password=',
      redis => "$redis cluster sentinel_password=p",
      "$is has " . 'sentinel_user= or sentinel_password= for a cluster' ],

    # llm_budget_redis: credentials

    [ 'a user has a password', redis => "$redis user=u",
      "$is has " . 'a user without a password' ],
    [ 'so has one in an address', redis => 'redis://u@127.0.0.1:9',
      'the address "127.0.0.1:9" of llm_budget_redis has no password before '
      . '"@": it is user:password@, or :password@' ],
    [ 'a password is said once', redis => 'redis://:p@127.0.0.1:9 password=p',
      "$is has "
      . 'a user or a password both in an address and as a parameter' ],
    [ 'a cluster has one password',
      redis => 'redis://:p@127.0.0.1:9 redis://:q@127.0.0.2:9 cluster',
      "$is has " . 'addresses with different users or passwords' ],
    [ 'a password in an address is escaped',
      redis => 'redis://u:p%zz@127.0.0.1:9',
      'user or password before "@127.0.0.1:9" of llm_budget_redis is not as '
      . 'in a URL' ],
    [ 'the file of a password is there', redis => "$redis password=file:none",
      qr/open\(\) "\S+\/none" failed/ ],
    [ 'and has one', redis => "$redis password=file:empty",
      qr/in "\S+\/empty": it has the password alone, of less than 4096 bytes/ ],
    [ 'and not a long one', redis => "$redis password=file:long",
      qr/there is no password in "\S+\/long"/ ],

    # llm_budget_redis: TLS

    [ 'ca= is for TLS', redis => "$redis ca=ca.pem",
      '"ca=" of llm_budget_redis is for rediss:// only' ],
    [ 'verify= is for TLS', redis => "$redis verify=off",
      '"verify=" of llm_budget_redis is for rediss:// only' ],
    [ 'name= is for TLS', redis => "$redis name=n",
      '"name=" of llm_budget_redis is for rediss:// only' ],
    [ 'verify= is on or off', redis => "$tls verify=yes",
      'invalid verify "yes" of llm_budget_redis: it is on or off' ],
    [ 'ca= is for verification', redis => "$tls verify=off ca=ca.pem",
      "$is has " . 'ca= for nothing: verify is off' ],
    [ 'a certificate has a key', redis => "$tls certificate=ca.pem",
      "$is has " . 'one of certificate= and certificate_key= only' ],
    [ 'a key has a certificate', redis => "$tls certificate_key=key.pem",
      "$is has " . 'one of certificate= and certificate_key= only' ],
    [ 'ca= is there', redis => "$tls ca=none.pem", 'none.pem' ],

    # llm_budget_journal

    [ 'llm_budget_journal works', journal => '%%DIR%%/j' ],
    [ 'llm_budget_journal works with a size', journal => 'j/ size=64k' ],
    [ 'llm_budget_journal is of no effect without Redis', redis => '' ],
    [ 'llm_budget_journal takes an argument', journal => ' ',
      'invalid number of arguments in "llm_budget_journal"' ],
    [ 'llm_budget_journal takes a path', journal => '""',
      '"llm_budget_journal" directive has an empty path' ],
    [ 'llm_budget_journal is refused twice', http => 'llm_budget_journal j;',
      '"llm_budget_journal" directive is duplicate' ],
    [ 'llm_budget_journal is refused in a server',
      server => 'llm_budget_journal j;',
      '"llm_budget_journal" directive is not allowed here' ],
    [ 'llm_budget_journal takes no other parameter',
      journal => 'j sync=on', 'invalid parameter "sync=on" of '
                              . 'llm_budget_journal: it takes size=' ],
    [ 'the journal is not too small', journal => 'j size=63k',
      'invalid size in "size=63k": give at least 64k' ],
    [ 'the size of a journal is a size', journal => 'j size=big',
      'invalid size in "size=big": give at least 64k' ],
    [ 'the journal is a folder', journal => '%%DIR%%/plain',
      qr/the journal "\S+\/plain" is not a folder/ ],
    [ 'the journal is not everybody\'s', journal => '/tmp',
      'the journal "/tmp" can be written by everybody' ],

    # llm_budget_store

    [ 'llm_budget_store redis works', loc => "$usd llm_budget_store redis;" ],
    [ 'llm_budget_store zone works', loc => "$usd llm_budget_store zone;" ],
    [ 'llm_budget_store works on the server level',
      server => 'llm_budget_store zone;', loc => $usd ],
    [ 'llm_budget_store works on the http level',
      http => 'llm_budget_store redis;', loc => $usd ],
    [ 'llm_budget_store takes nothing else', loc => 'llm_budget_store disk;',
      '"llm_budget_store" directive must be "zone" or "redis"' ],
    [ 'llm_budget_store is refused twice',
      loc => 'llm_budget_store zone; llm_budget_store zone;',
      '"llm_budget_store" directive is duplicate' ],
    [ 'llm_budget_store zone works without Redis', redis => '',
      loc => "$usd llm_budget_store zone;" ],
    [ 'llm_budget_store redis needs Redis', redis => '',
      loc => "$usd llm_budget_store redis;",
      '"llm_budget_store redis" needs "llm_budget_redis URL" on the http '
      . 'level' ],
    [ 'llm_budget_store redis of a server needs Redis', redis => '',
      server => 'llm_budget_store redis;', loc => $usd,
      '"llm_budget_store redis" needs "llm_budget_redis URL" on the http '
      . 'level' ],

    # llm_budget_outage

    [ 'llm_budget_outage deny works', loc => "$usd llm_budget_outage deny;" ],
    [ 'llm_budget_outage allow works', loc => "$usd llm_budget_outage allow;" ],
    [ 'llm_budget_outage local works', loc => "$usd llm_budget_outage local;" ],
    [ 'llm_budget_outage works on the server level',
      server => 'llm_budget_outage local;', loc => $usd ],
    [ 'llm_budget_outage works on the http level',
      http => 'llm_budget_outage local;', loc => $usd ],
    [ 'llm_budget_outage local works with all of a limit',
      loc => "$usd llm_budget_outage local share=100%;" ],
    [ 'llm_budget_outage takes nothing else', loc => 'llm_budget_outage open;',
      '"llm_budget_outage" directive must be "deny", "allow" or "local"' ],
    [ 'llm_budget_outage is refused twice',
      loc => 'llm_budget_outage deny; llm_budget_outage allow;',
      '"llm_budget_outage" directive is duplicate' ],
    [ 'share= is for local alone', loc => 'llm_budget_outage deny share=10%;',
      'invalid parameter "share=10%" of llm_budget_outage: only "local" '
      . 'takes one, share=' ],
    [ 'local takes share= alone', loc => 'llm_budget_outage local part=10%;',
      'invalid parameter "part=10%" of llm_budget_outage' ],
    [ 'share= is a percentage', loc => 'llm_budget_outage local share=10;',
      'invalid share in "share=10": it is a percentage from 1% to 100%' ],
    [ 'share= is not 0%', loc => 'llm_budget_outage local share=0%;',
      'invalid share in "share=0%"' ],
    [ 'share= is not above 100%', loc => 'llm_budget_outage local share=101%;',
      'invalid share in "share=101%"' ],
    [ 'share= is not empty', loc => 'llm_budget_outage local share=%;',
      'invalid share in "share=%"' ],

    # llm_budget_redis_tag

    [ 'llm_budget_redis_tag works', loc => 'llm_budget_redis_tag $arg_team; '
          . 'llm_budget_limit l key=$arg_team usd=1;' ],
    [ 'a tag without variables goes with any limit',
      loc => "llm_budget_redis_tag shard1; $usd" ],
    [ 'the key of a limit may have more than the tag',
      loc => 'llm_budget_redis_tag $arg_team; '
             . 'llm_budget_limit l key=x:${arg_team}:$arg_user usd=1;' ],
    [ 'a limit without a key goes with the tag of the caller',
      loc => "llm_budget_redis_tag \$llm_budget_key_id; $usd" ],
    [ 'names of variables have no case',
      loc => 'llm_budget_redis_tag $arg_Team; '
             . 'llm_budget_limit l key=$ARG_team usd=1;' ],
    [ 'a limit without a key does not go with another tag',
      loc => "llm_budget_redis_tag \$arg_team; $usd",
      'limit "l" would be counted anew for each value of '
      . 'llm_budget_redis_tag "$arg_team": its key= must contain '
      . '"$arg_team", or the tag must not' ],
    [ 'a limit has all variables of the tag',
      loc => 'llm_budget_redis_tag $arg_a:$arg_b; '
             . 'llm_budget_limit l key=$arg_a usd=1;',
      'its key= must contain "$arg_b", or the tag must not' ],
    [ 'a variable that only begins like the tag is another one',
      loc => 'llm_budget_redis_tag $arg_team; '
             . 'llm_budget_limit l key=$arg_teams usd=1;',
      'its key= must contain "$arg_team", or the tag must not' ],
    [ 'of several limits each has it',
      loc => 'llm_budget_redis_tag $arg_a; '
             . 'llm_budget_limit one key=$arg_a usd=1; '
             . 'llm_budget_limit two key=all usd=1;',
      'limit "two" would be counted anew' ],
    [ 'the tag of a server concerns the limits of a location',
      server => 'llm_budget_redis_tag $arg_a;', loc => $usd,
      'limit "l" would be counted anew for each value of '
      . 'llm_budget_redis_tag "$arg_a"' ],
    [ 'the tag of a location the limits of a server',
      server => $usd, loc => 'llm_budget_redis_tag $arg_a;',
      'limit "l" would be counted anew' ],
    [ 'a tag of the location replaces that of the server',
      server => 'llm_budget_redis_tag $arg_a;',
      loc => "llm_budget_redis_tag shard; $usd" ],
    [ 'a tag is of no concern to the zone',
      loc => "llm_budget_store zone; llm_budget_redis_tag \$arg_a; $usd" ],
    [ 'llm_budget_redis_tag is refused twice',
      loc => 'llm_budget_redis_tag a; llm_budget_redis_tag b;',
      '"llm_budget_redis_tag" directive is duplicate' ],
    [ 'llm_budget_redis_tag takes one argument',
      loc => 'llm_budget_redis_tag a b;',
      'invalid number of arguments in "llm_budget_redis_tag"' ],
    [ 'llm_budget_redis_tag knows its variables',
      loc => 'llm_budget_redis_tag $no_such_variable; '
             . 'llm_budget_limit l key=$no_such_variable usd=1;',
      'unknown "no_such_variable" variable' ],
    [ 'a limit has one tag in all locations',
      loc => "llm_budget_redis_tag one; $usd",
      plain => "llm_budget on; llm_budget_redis_tag two; $usd "
               . 'proxy_pass http://standin;',
      'is counted under llm_budget_redis_tag "one" and under "two": it would '
      . 'be two budgets; give them two names, or one tag' ],
    [ 'or in none', loc => "llm_budget_redis_tag one; $usd",
      plain => "llm_budget on; $usd proxy_pass http://standin;",
      'is counted under llm_budget_redis_tag "one" and under "": it would be '
      . 'two budgets' ],
    [ 'the tag of a server is not that of its locations',
      server => "llm_budget on; $usd",
      loc => 'llm_budget_redis_tag one;',
      plain => 'llm_budget_redis_tag one; proxy_pass http://standin;' ],
    [ 'tags do not concern the zone',
      loc => "llm_budget_redis_tag one; llm_budget_store zone; $usd",
      plain => "llm_budget on; llm_budget_store zone; $usd "
               . 'proxy_pass http://standin;' ],
    [ 'llm_budget_redis_tag works where nothing is metered',
      plain => 'llm_budget_api; llm_budget_redis_tag $arg_team;' ],
);

for my $case (@cases) {
    my ($title, @rest) = @$case;
    my $wanted = @rest % 2 ? pop @rest : undef;
    my ($passed, $text) = check_conf(conf(@rest), files => \%files);

    if (!defined $wanted) {
        ok($passed, $title) or diag($text);
        next;
    }

    $wanted = quotemeta($wanted) if !ref $wanted;

    like($passed ? 'it passed' : $text, qr/\[emerg\].*$wanted/, $title);
}

no_password_shown();
warnings();
inherited();
done_testing();


sub conf {
    my (%opt) = @_;

    my %text = map { $_ => $opt{$_} // '' } qw(http server loc plain last);
    my $store = $opt{redis} // $redis;
    my $journal = $opt{journal} // '%%DIR%%/journal';

    $store = "llm_budget_redis $store;" if length $store;
    $journal = "llm_budget_journal $journal;" if length $journal;

    return <<"END";

http {
    llm_budget_prices %%PRICES%%;
    $store
    $journal
    $text{http}

    upstream standin { server 127.0.0.1:9; }

    server {
        listen 127.0.0.1:%%PORT%%;
        $text{server}

        location /v1/ {
            llm_budget on;
            $text{loc}
            proxy_pass http://standin;
        }

        location /plain {
            $text{plain}
        }
    }

    $text{last}
}
END
}


# A throw-away certificate that is its own CA, or its key.

sub pem {
    my ($name) = @_;

    our %made;

    if (!%made) {
        my $base = "$LLMBudget::BUILD/redis-directives-$$";

        qx(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \\
           -nodes -days 2 -subj /CN=redis -keyout $base.key \\
           -out $base.pem 2>&1);

        %made = ('ca.pem' => read_file("$base.pem"),
                 'key.pem' => read_file("$base.key"));
        unlink("$base.pem", "$base.key");
        plan(skip_all => 'no openssl to make a certificate')
            if grep { !length($_ // '') } values %made;
    }

    return $made{$name};
}


# Whatever is wrong, a password is not in what nginx prints.

sub no_password_shown {
    for my $args ("$redis passwort=s3cret", 'redis://u:s3cret@127.0.0.1:x',
                  'redis://u:s3cret@', 'redis://u:s3cret%@127.0.0.1:9',
                  'redis://u:s3cret@127.0.0.1:9/x', "$redis s3cret:s3cret",
                  'redis//u:s3cret@127.0.0.1:9', "$redis user= password=s3cret",
                  'redis://u:s3cret/s3cret@127.0.0.1:9')
    {
        my ($passed, $text) = check_conf(conf(redis => $args),
                                         files => \%files);

        ok(!$passed, "it is refused: $args");
        unlike($text, qr/(?<!")s3cret(?!" of llm_budget_redis)/,
               'without the password');
    }
}


# What passes, but is worth a word.

sub warnings {
    my ($passed, $text) = check_conf(conf(redis => "$redis "
                                          . 'password=file:password'),
                                     files => \%files);

    ok($passed, 'a password in a file that everybody can read passes');
    like($text, qr/\[warn\].*password in "\S+\/password" is readable by every/,
         'with a warning');
}


# Nobody listens at that Redis: what a location does about it tells whose
# directives it has.

sub inherited {
    my $standin = start_standin();
    my $nginx = start_nginx(conf => conf(
        http => <<'END', server => <<'END', loc => <<'END', plain => ''));
    log_format llm_usage escape=none '$llm_budget_usage';
    access_log %%DIR%%/usage.log llm_usage if=$llm_budget_usage;
    llm_budget_outage local share=1%;
    upstream p { server 127.0.0.1:%%STANDIN%%; }
END
        llm_budget on;
        llm_budget_key $arg_user;
        llm_budget_clamp off;
        llm_budget_limit all key=all usd=0.1;

        location /inherits/ { proxy_pass http://p; }
        location /share/ {
            llm_budget_outage local share=50%;
            proxy_pass http://p;
        }
        location /default/ {
            llm_budget_outage local;
            proxy_pass http://p;

            location /default/nested/ { proxy_pass http://p; }
        }
        location /deny/ { llm_budget_outage deny; proxy_pass http://p; }
        location /allow/ { llm_budget_outage allow; proxy_pass http://p; }
        location /zone/ {
            llm_budget_store zone;
            proxy_pass http://p;

            location /zone/nested/ { proxy_pass http://p; }
            location /zone/redis/ {
                llm_budget_store redis;
                proxy_pass http://p;
            }
        }
END
            llm_budget_limit all key=all usd=0.1;
END

    # path, outage, store, the limit that a call of more than it names

    for my $case ([ inherits => 'local', 'redis', '0.001000000' ],
                  [ share => 'local', 'redis', '0.050000000' ],
                  [ default => 'local', 'redis', '0.010000000' ],
                  [ 'default/nested' => 'local', 'redis', '0.010000000' ],
                  [ deny => 'deny', 'redis' ],
                  [ allow => 'allow', 'redis' ],
                  [ zone => '', 'zone', '0.100000000' ],
                  [ 'zone/nested' => '', 'zone', '0.100000000' ],
                  [ 'zone/redis' => 'local', 'redis', '0.001000000' ])
    {
        my ($path, $outage, $store, $limit) = @$case;
        my $n = usage_lines();
        my $answer = post_json("/$path/v1/chat/completions?user=u",
            { model => 'm-std', max_tokens => 200_000,
              messages => [ { role => 'user', content => 'abcd' } ] });

        is($answer->{headers}{'x-llm-budget-outage'} // '', $outage,
           "/$path/: what is done in an outage");

        my $line = wait_for(sub { (usage_lines())[$n] }) // {};

        is($line->{store}, $store, 'its store');
        is($line->{outage} // '', $outage, 'which its usage line tells, too');
        is($answer->{body} =~ /"limit_usd":"([\d.]+)"/ ? $1 : undef, $limit,
           'its limit');
    }

    $nginx->stop(allow => qr/is down/);
}
