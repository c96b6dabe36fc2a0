#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Every file of conf-examples passes "nginx -t" and does what its comment
# says.  Only addresses, paths and certificates are substituted: where an
# example speaks TLS to a provider it does so here, to a server that holds a
# certificate of the provider's name and stands before the stand-in.  The
# Redis of an example is started as its comment says.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;
use LLMBudgetRedis;


need_module();

my $dir = root() . '/conf-examples';
my @names = qw(api.openai.com api.anthropic.com example.openai.azure.com);
my ($cert, $key) = certificate();
my $standin;

my %tests = (
    'minimal.conf' => \&minimal,
    'gateway.conf' => \&gateway,
    'teams.conf' => \&teams,
    'failover.conf' => \&failover,
    'local.conf' => \&local_models,
    'redis.conf' => \&redis,
    'redis-cluster.conf' => \&redis_cluster,
    'redis-sentinel.conf' => \&redis_sentinel,
);

my @files = map { s{.*/}{}r } sort glob("$dir/*.conf");

is_deeply(\@files, [ sort keys %tests ], 'every example is tested here');

subtest('the configuration of README.md works', \&readme);

for my $file (@files) {
    next if !$tests{$file};

    subtest("$file works", sub {
        plan(skip_all => 'no redis-server: run scripts/setup test')
            if $file =~ /^redis/ && !defined find_redis();

        $tests{$file}->($file);
    });
}

done_testing();


# A certificate of all providers' names, and its key.

sub certificate {
    my $base = "$LLMBudget::BUILD/examples-$$";
    my $names = join(',', map { "DNS:$_" } @names);

    qx(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \\
       -nodes -days 2 -subj /CN=stand-in -addext subjectAltName=$names \\
       -keyout $base.key -out $base.pem 2>&1);

    my @made = map { read_file("$base.$_") } qw(pem key);

    unlink("$base.key", "$base.pem");
    plan(skip_all => 'no openssl to make a certificate')
        if grep { !length($_ // '') } @made;

    return @made;
}


# The text of an example with this machine's addresses and paths; more: text
# for its http block; change: a function that changes the text in $_.

sub example {
    my ($file, $more, $change) = @_;

    my $text = read_file("$dir/$file");

    $change->() for $change ? $text : ();

    $text =~ s/^worker_processes auto;\n//m;
    $text =~ s{^load_module modules/ngx_http_llm_budget_module\.so;}
              {length LLMBudget::find_module() ? 'load_module %%MODULE%%;'
                                               : ''}me
        or fail("$file loads the module by a relative path");
    $text =~ s/listen 127\.0\.0\.1:8080;/listen 127.0.0.1:%%PORT%%;/
        or fail("$file listens on port 8080");
    $text =~ s{/etc/ssl/certs/ca-certificates\.crt}{%%DIR%%/cert.pem}g;
    $text =~ s{logs/llm_usage\.log}{%%DIR%%/usage.log};
    $text =~ s{file:secrets/}{file:secret-}g;
    $text =~ s{/var/lib/nginx/llm_budget\b}{%%DIR%%/journal};
    $text =~ s/server( +)127\.0\.0\.1:8000;/server${1}127.0.0.1:%%STANDIN%%;/;

    for my $name (@names) {
        $text =~ s/server( +)\Q$name\E:443;/server${1}127.0.0.1:%%PORT1%%;/g;
    }

    $more .= <<'END';
    server {
        listen 127.0.0.1:%%PORT1%% ssl;
        ssl_certificate      %%DIR%%/cert.pem;
        ssl_certificate_key  %%DIR%%/cert.key;

        # the provider whose bad hour it is

        if ($http_x_fail = $http_host) {
            return 503;
        }

        location / {
            proxy_pass http://127.0.0.1:%%STANDIN%%;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-SNI $ssl_server_name;
        }
    }
END

    $text =~ s/\}\s*\z/$more}\n/;

    return $text;
}


# Starts an example as it stands, and again as a private nginx.

sub start {
    my ($file, %opt) = @_;

    $standin = start_standin(prices => $opt{prices} // "$dir/prices.json");
    $LLMBudget::MADE = 0;

    my %files = (
        'cert.pem' => $cert,
        'cert.key' => $key,
        'secret-openai' => "sk-provider-openai\n",
        'secret-anthropic' => "sk-provider-anthropic\n",
        'secret-azure' => "provider-azure\n",
        map { $_ => read_file("$dir/$_") } qw(prices.json local-prices.json),
    );

    %files = (%files, %{$opt{files} // {}});

    my $conf = example($file, $opt{http} // '', $opt{change});
    my ($passed, $text) = check_conf($conf, files => \%files);

    ok($passed, 'it passes nginx -t') or diag($text);

    return start_nginx(conf => $conf, files => \%files, workers => 2);
}


sub chat {
    my ($key, $model, %opt) = @_;

    my $body = { model => $model, %{$opt{more} // {}},
                 messages => [ { role => 'user',
                                 content => $opt{content} // 'abcd' x 5 } ] };

    return post_json($opt{path} // '/v1/chat/completions', $body,
                     headers => { Authorization => "Bearer $key",
                                  %{$opt{headers} // {}} },
                     standin => $opt{standin});
}


# The first configuration of README.md, and what it says of a hold.

sub readme {
    my $text = read_file(root() . '/README.md') // '';
    my ($conf) = $text =~ /^```nginx\n(load_module.*?)^```/ms;

    $standin = start_standin(prices => "$dir/prices.json");

    ok($conf, 'it begins with one') or return;
    is($conf =~ tr/\n//, 10, 'of ten lines');

    $conf =~ s/^load_module .*\n//m;
    $conf =~ s/listen 8080;/listen 127.0.0.1:%%PORT%%;/;
    $conf =~ s{conf-examples/prices\.json}{$dir/prices.json};
    $conf =~ s{https://api\.openai\.com}{http://127.0.0.1:%%STANDIN%%};
    $conf =~ s/^http \{\n/$&    log_format u escape=none '\$llm_budget_usage';
    access_log %%DIR%%\/usage.log u;\n/m;

    my $nginx = start_nginx(conf => $conf);

    for my $case ([ '0.0063175', max_tokens => 500 ], [ '0.165125' ]) {
        my ($hold, %more) = @$case;

        is(chat('sk-own', 'gpt-4o', content => 'a' x 400,
                more => \%more)->{status}, 200, 'a call is served');

        my $line = wait_for(sub { (usage_lines())[defined $more{max_tokens}
                                                  ? 0 : 1] });

        is($line->{hold_nusd}, $hold * 1e9, 'it is held as README.md says');
        like($text, qr/\Q$hold\E USD/, 'which it does');
    }

    $nginx->stop();
}


sub minimal {
    my ($file) = @_;

    # the one name that nginx would resolve, and the log that the standing
    # check reads

    my $nginx = start($file, http => <<'END');
    upstream api.openai.com { server 127.0.0.1:%%PORT1%%; }
    log_format llm_usage escape=none '$llm_budget_usage';
    access_log %%DIR%%/usage.log llm_usage if=$llm_budget_usage;

    server {
        listen 127.0.0.1:%%PORT2%%;
        location /llm/api/ { llm_budget_api; }
    }
END

    is(chat('sk-own', 'gpt-4o')->{status}, 200, 'a call is served');

    my $seen = $standin->last_request();

    is($seen->{header}{authorization}, 'Bearer sk-own',
       'the client\'s own key travels');
    is($seen->{header}{'x-sni'}, 'api.openai.com', 'SNI is the provider');
    is($seen->{header}{host}, 'api.openai.com', 'and so is Host');

    is(chat('sk-own', 'nope')->{status}, 400, 'a model without a price is not '
                                              . 'served');
    is(get('/v1/chat/completions')->{status}, 404, 'GET is no call');

    # the ledger is on another port

    my $api = send_raw("GET /llm/api/ledger HTTP/1.0\r\n\r\n",
                       port => $nginx->port_of('PORT2'));
    my $billed = $standin->stats()->{billed_nusd};

    like($api->{body}, qr/"unit":"usd".*"spent":$billed,"held":0/,
         'the day\'s account has what was billed');
    cmp_ok($billed, '>', 0, 'which is something');

    my $sum = 0;

    $sum += $_->{cost_nusd} for usage_lines();
    is($sum, $billed, 'and so has the usage log');

    $nginx->stop();
}


sub gateway {
    my ($file) = @_;

    my $nginx = start($file);
    my $answer = chat('sk-alice', 'gpt-4o');

    is($answer->{status}, 200, 'alice is served');
    is($answer->{headers}{'x-llm-budget-model'}, 'gpt-4o', 'as she asked');

    my $seen = $standin->last_request();

    is($seen->{header}{authorization}, 'Bearer sk-provider-openai',
       'with the credential of OpenAI');
    is($seen->{header}{'x-sni'}, 'api.openai.com', 'SNI is OpenAI\'s');
    is($seen->{header}{host}, 'api.openai.com', 'and so is Host');

    $answer = post_json('/v1/messages',
                        { model => 'claude-sonnet-4-5', max_tokens => 20,
                          stream => \1,
                          messages => [ { role => 'user',
                                          content => 'hello' } ] },
                        headers => { 'x-api-key' => 'sk-bob' });

    is($answer->{status}, 200, 'bob streams from Anthropic');
    like($answer->{body}, qr/event: message_stop/, 'to the end');

    $seen = $standin->last_request();

    is($seen->{header}{'x-api-key'}, 'sk-provider-anthropic',
       'with the credential of Anthropic');
    is($seen->{header}{authorization}, undef, 'and no other');
    is($seen->{header}{'x-sni'}, 'api.anthropic.com', 'SNI is Anthropic\'s');

    my $before = $standin->stats()->{requests};

    is(chat('sk-carol', 'gpt-4o')->{status}, 401, 'an unknown key is refused');
    is(get('/v1/models')->{status}, 401, 'even where nothing is charged');
    is($standin->stats()->{requests}, $before, 'before any provider sees it');

    # bob's team has 5 USD a day; 4 of them are spent with one call

    chat('sk-bob', 'gpt-4o', more => { max_tokens => 4 },
         standin => 'prompt=1600000');

    $answer = chat('sk-bob', 'gpt-4o', more => { max_tokens => 100 });

    is($answer->{headers}{'x-llm-budget-verdict'}, 'degrade',
       'at 80% of the team\'s budget');
    is($answer->{headers}{'x-llm-budget-model'}, 'gpt-4o-mini',
       'a cheaper model serves');
    is($answer->{headers}{'x-llm-budget-degraded-from'}, 'gpt-4o',
       'and the client is told');

    chat('sk-bob', 'gpt-4o', more => { max_tokens => 4 },
         standin => 'prompt=9000000');

    $answer = chat('sk-bob', 'gpt-4o', more => { max_tokens => 100 });

    is($answer->{status}, 429, 'when it is gone the team is refused');
    like($answer->{body}, qr/"code":"budget_exceeded".*"scope":"team"/,
         'by the team\'s budget');

    is(chat('sk-alice', 'gpt-4o')->{status}, 200, 'other teams are not');

    balanced('the books agree');
    $nginx->stop();
}


sub teams {
    my ($file) = @_;

    my $nginx = start($file);
    my ($refused, $n);

    # 10 a minute: at the latest the 21st call meets the limit, should the
    # minute turn in between

    for $n (1 .. 21) {
        my $answer = chat('sk-alice', 'gpt-4o-mini', content => 'again');

        next if $answer->{status} == 200;

        $refused = $answer;
        last;
    }

    is($refused->{status}, 429, 'the same body over and over is refused');
    like($refused->{body}, qr/"code":"loop_detected".*"scope":"loop"/,
         'by the loop guard');
    is(chat('sk-alice', 'gpt-4o-mini', content => 'other')->{status}, 200,
       'another body is not');
    is(chat('sk-ci', 'gpt-4o-mini', content => 'again')->{status}, 200,
       'nor another caller\'s');

    my @prod = map { chat('sk-prod', 'gpt-4o-mini',
                          content => 'again')->{status} } 1 .. 22;

    is_deeply(\@prod, [ (200) x 22 ], 'production has no loop guard');

    is(chat('sk-nobody', 'gpt-4o-mini')->{status}, 401,
       'a key without a caller is refused');

    my $ledger = ledger();
    my %limit = map { ("$_->{budget}/$_->{unit}/$_->{key}" => $_->{limit}) }
                    @{$ledger->{accounts}};

    is($limit{'env/usd/data:dev'}, 5_000_000_000, 'dev has its budget');
    is($limit{'env/usd/data:ci'}, 2_000_000_000, 'ci has its own');
    is($limit{'env/usd/shop:prod'}, 200_000_000_000, 'prod has another');
    is($limit{'rate/requests/shop:prod'}, 600, 'the rate follows, too');
    is($limit{'slots/concurrency/shop'}, 50, 'as do the slots');

    balanced('the books agree', limit => 'env');
    $nginx->stop();
}


sub failover {
    my ($file) = @_;

    my $nginx = start($file);

    is(chat('sk-alice', 'gpt-4o')->{status}, 200, 'the first one serves');
    is($standin->last_request()->{header}{host}, 'api.openai.com',
       'which is OpenAI');

    my $answer = chat('sk-alice', 'gpt-4o', more => { stream => \1 },
                      headers => { 'X-Fail' => 'api.openai.com' });

    is($answer->{status}, 200, 'a call that OpenAI cannot answer is served');
    like($answer->{body}, qr/data: \[DONE\]/, 'to its end');

    my $seen = $standin->last_request();

    is($seen->{header}{host}, 'example.openai.azure.com', 'by Azure');
    is($seen->{target}, '/openai/v1/chat/completions', 'at its own path');
    is($seen->{header}{'api-key'}, 'provider-azure',
       'with its own credential in its own header');
    is($seen->{header}{authorization}, undef, 'and without OpenAI\'s');

    my $line = (balances(limit => 'user')->{usage})->[-1];

    is($line->{provider}, 'azure', 'the usage line names who served');

    my $before = $standin->stats()->{requests};

    is(chat('sk-alice', 'nope')->{status}, 400,
       'a refusal is not passed on to the second');
    is(chat('sk-nobody', 'gpt-4o')->{status}, 401, 'nor is a bad key');
    is($standin->stats()->{requests}, $before, 'nobody sees them');

    balanced('what answered is charged, once', limit => 'user');
    $nginx->stop();
}


sub local_models {
    my ($file) = @_;

    my $nginx = start($file, prices => "$dir/local-prices.json");

    is(chat('any', 'qwen3-32b')->{status}, 200, 'the priced model serves');
    is($standin->last_request()->{header}{authorization}, 'Bearer any',
       'what the client sends as a key is passed on');
    is(chat('any', 'qwen3-32b-awq', standin => 'served=qwen3-32b')->{status},
       200, 'also under its other name');
    is(chat('any', 'qwen3-4b')->{status}, 200, 'and the free one');
    is(post_json('/v1/embeddings', { model => 'bge-m3', input => 'hello' })
       ->{status}, 200, 'and the embeddings, without any key');
    is(chat('any', 'gpt-4o')->{status}, 400, 'no other model');

    my $lines = balances(limit => 'host')->{usage};
    my ($free) = grep { ($_->{model} // '') eq 'qwen3-4b' } @$lines;

    is($free->{cost_nusd}, 0, 'the free model costs nothing');
    cmp_ok($free->{total_tokens}, '>', 0, 'but has its tokens counted');

    balanced('the books agree', limit => 'host');
    $nginx->stop();
}


# One Redis with TLS and a user, as the comment of the file has them.

sub redis {
    my ($file) = @_;

    my $text = read_file("$dir/$file");
    my ($rules) = $text =~ /#SHA-256-of-the-password (.*?)\n#\n/s;

    ok($rules, 'the comment has a user') or return;
    $rules =~ s/[#\s]+/ /g;

    # "default" keeps its rights: Redis reads its append-only file with them

    my $redis = start_redis(tls => 1, password => 'root', appendonly => 1,
                            conf => [ "user llm on >pass-word $rules",
                                      'maxmemory-policy noeviction' ]);
    my $url = $redis->tls_url();

    my $nginx = start($file,
        files => { 'secret-redis' => "pass-word\n",
                   'ca.crt' => read_file($redis->tls_file('ca.crt')) },
        change => sub {
            s{rediss://redis\.internal:6380}{$url timeout=5s}
                or fail('it has the address of a Redis');
            s{ca=\S+certificates\.crt}{ca=%%DIR%%/ca.crt}
                or fail('it has a CA');
        });

    is(chat('sk-alice', 'gpt-4o')->{status}, 200, 'a call is served');
    is(chat('sk-bob', 'gpt-4o-mini')->{status}, 200, 'and another one');

    my $line = wait_for(sub { (usage_lines())[1] });

    is($line->{store}, 'redis', 'it was held in Redis');
    is($line->{outage}, undef, 'which is there');
    balanced('the books agree');

    unlike($nginx->log_text(), qr/maxmemory|NOPERM/,
           'the user may do all that is needed, and nothing is evicted');

    # without Redis a tenth of each limit may be spent here

    $redis->kill9();

    my $answer = chat('sk-alice', 'gpt-4o-mini');

    is($answer->{status}, 200, 'without Redis a call is served');
    is($answer->{headers}{'x-llm-budget-outage'}, 'local',
       'from the allowance of this machine');

    $answer = chat('sk-alice', 'gpt-4o', content => 'a' x 900_000);

    is($answer->{status}, 429, 'a call of more than that is not');
    like($answer->{body}, qr/"limit_usd":"2\.000000000"/,
         'a tenth of the limit');

    $redis->start_again();

    ok(wait_for(sub { spent(ledger() // {}, 'all')
                      == $standin->stats()->{billed_nusd} }, 20),
       'when it is back it is told');
    balanced('and the books agree');
    $nginx->stop(allow => qr/is down/);
}


sub redis_cluster {
    my ($file) = @_;

    my $redis = start_cluster(node_timeout => 15000);
    my $urls = join(' ', $redis->urls());
    my $nginx = start($file, change => sub {
        s{redis://10\.0\.0\.11.*?:6379 cluster}{$urls cluster timeout=5s}s
            or fail('it has the addresses of a cluster');
    });

    for my $case ([ alice => 'research' ], [ bob => 'support' ]) {
        my ($user, $team) = @$case;

        is(chat("sk-$user", 'gpt-4o')->{status}, 200, "$user is served");

        my $n = 0;
        my $limits;

        wait_for(sub {
            my $ledger = api("ledger?team=$team") // {};

            return 0 if ($ledger->{stat}{pending} // 1) != 0;

            $limits = { map { ("$_->{budget}/$_->{key}" => $_->{spent}) }
                        @{$ledger->{accounts}} };
            return 1;
        });

        is_deeply([ sort keys %$limits ], [ "team/$team",
                                            "user/$team:$user" ],
                  "the ledger of $team has its accounts, and no other");
        cmp_ok($limits->{"team/$team"}, '>', 0, 'which were charged');
    }

    isnt($redis->slot_of('llmb{research}:accounts'),
         $redis->slot_of('llmb{support}:accounts'), 'in two slots');

    for my $team (qw(research support)) {
        my $dump = ledger_dump($redis, 'llmb', $team);

        ok($dump->{accounts}, "the node of $team has them");
    }

    $nginx->stop();
}


sub redis_sentinel {
    my ($file) = @_;

    my $master = start_redis(password => 'one', appendonly => 1,
                             conf => [ 'masterauth one' ]);
    my $replica = start_redis(password => 'one', replica_of => $master);
    my $sentinels = start_sentinels(master => $master, name => 'budgets');
    my $urls = join(' ', $sentinels->urls());

    my $nginx = start($file, files => { 'secret-redis' => "one\n" },
        change => sub {
            s{redis://10\.0\.0\.11.*?(?=\ssentinel=)}{$urls timeout=5s}s
                or fail('it has the addresses of Sentinels');
        });

    is(chat('sk-alice', 'gpt-4o')->{status}, 200, 'a call is served');
    balanced('by the master');

    $master->kill9();

    my $answer = chat('sk-alice', 'gpt-4o');

    is("$answer->{status} " . ($answer->{headers}{'x-llm-budget-outage'} // ''),
       '503 deny', 'without a master none is');

    ok(wait_for(sub { chat('sk-alice', 'gpt-4o')->{status} == 200 }, 30),
       'until there is another one');
    balanced('which knows the books');

    like($nginx->log_text(),
         qr/the master of "budgets" is redis \S+ now, not /,
         'and the log says so');
    $nginx->stop(allow => qr/is down/);
}
