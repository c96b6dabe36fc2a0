#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Every $llm_budget_ variable: what it is when the answer's header goes out and
# what it is in the log, for a plain answer, a stream, a refusal, a free
# endpoint, and where nothing is metered.


use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();

my $source = read_file(root() . '/ngx_http_llm_budget_module/http/'
                       . 'ngx_http_llm_budget_variables.c');
my @names = $source =~ /^    ngx_http_llm_budget_var\("(\w+)"/mg;

cmp_ok(scalar @names, '>', 30, 'the table of variables is read');

my $json = join(',', map { "\"$_\":\"\$llm_budget_$_\"" }
                     grep { $_ ne 'usage' } @names);
my $headers = join("\n", map { "add_header X-V-$_ \"\$llm_budget_$_\" always;" }
                         map { my $name = $_; $name } @names);

$headers =~ s/X-V-(\w+)/'X-V-' . $1 =~ tr{_}{-}r/ge;

my $standin = start_standin();
my $nginx = start_nginx(conf => llm_conf(
    zone => 'llm 8m',
    key => '$arg_who',
    limit => [ 'all key=all usd=1000', 'rate requests=$arg_rate per=year',
               'model key=$llm_budget_model:$llm_budget_user tokens=1000000' ],
    http => "    log_format vars escape=json '{$json}';\n"
            . '    llm_budget_provider p { pass http://standin; host h.test; '
            . "api_key sk-p; }\n    map_hash_bucket_size 128;\n"
            . "    map \$llm_budget_key_sha256 \$known { @{[ sha('sk-1') ]} "
            . 'yes; }',
    server => "        access_log %%DIR%%/vars.log vars;\n        $headers\n"
              . '        add_header X-Known "$known" always;',
    location => '            llm_budget_pass p;',
    pass => '$llm_budget_pass',
    locations => <<'END'));
        location /unmetered {
            return 200 "plain\n";
        }

        location /byok/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000;
            proxy_pass http://standin;
        }
END

my $sha = sha('sk-1');
my $version = sha(read_file(prices()));
my $body = { model => 'm-std', user => 'someone',
             messages => [ { role => 'user', content => 'hello' } ] };
my $text = JSON::PP->new->canonical->encode($body);

# a plain answer: 1000 tokens in, 400 of them cached, 20 out

my ($before, $after) = call($text, standin => 'prompt=1000; cached=400; '
                                              . 'out=20; reasoning=5; '
                                              . 'served=m-mini; count=text');

my %request = (
    key_id => sha('me'),
    key_sha256 => $sha,
    endpoint => '/v1/chat/completions',
    dialect => 'chat',
    provider => 'p',
    pass => 'http://standin/v1/chat/completions?who=me&rate=100',
    upstream => 'standin',
    host => 'h.test',
    model_requested => 'm-std',
    model => 'm-std',
    stream => '0',
    user => 'someone',
    verdict => 'allow',
    price_version => $version,
);

is_deeply(part($before, keys %request), \%request,
          'the answer\'s header has what is known of the request');
like($before->{id}, qr/^[0-9a-f]{32}$/, 'the id is 32 hex digits');
like($before->{hold_nusd}, qr/^[1-9]\d*$/, 'the hold is there');
is($before->{hold}, sprintf('%d.%09d', int($before->{hold_nusd} / 1e9),
                            $before->{hold_nusd} % 1e9), 'and in dollars');

my @later = qw(model_served service_tier priced_as input_tokens
               cached_read_tokens cache_write_tokens cache_write_1h_tokens
               output_tokens reasoning_tokens web_searches total_tokens
               end ttft code limit);

is_deeply(part($before, @later), { map { $_ => '' } @later },
          'what the answer will say is empty before it has');
is_deeply(part($before, qw(cost cost_nusd usage_source)),
          { cost => '0.000000000', cost_nusd => '0', usage_source => 'none' },
          'and nothing is charged');
my $cost = 600 * 150 + 400 * 75 + 20 * 600;

is_deeply(part($after, keys %request), \%request, 'the log has the same');
is($after->{id}, $before->{id}, 'the same id');
is($after->{body_sha256}, sha($text), 'the body\'s hash');
is($before->{body_sha256}, $after->{body_sha256},
   'which was there before the answer');
is_deeply(part($after, @later, qw(cost_nusd cost usage_source)),
          { model_served => 'm-mini', service_tier => '',
            priced_as => 'm-mini',
            input_tokens => 1000, cached_read_tokens => 400,
            cache_write_tokens => 0, cache_write_1h_tokens => 0,
            output_tokens => 20, reasoning_tokens => 5, web_searches => 0,
            total_tokens => 1020, end => 'complete',
            ttft => $after->{ttft}, code => '', limit => '',
            cost_nusd => $cost, cost => '0.000132000',
            usage_source => 'provider' },
          'and what the answer said, priced as the model that served (T19)');
like($after->{ttft}, qr/^\d+$/, 'the time to the first content is in ms');
cmp_ok($after->{duration}, '>=', $after->{ttft}, 'so is that of the whole');
is($after->{overrun_nusd}, 0, 'nothing was charged beyond the hold');

# a stream, cut; and cache writes

($before, $after) = call('{"model":"m-std","stream":true,"stream_options":'
                         . '{"include_usage":true},"messages":[{"role":"user",'
                         . '"content":"hello"}]}',
                         standin => 'cut_events=3; count=body');

is($before->{stream}, '1', 'a stream is one');
is_deeply(part($after, qw(stream end usage_source code)),
          { stream => '1', end => 'upstream_cut', usage_source => 'estimated',
            code => '' }, 'one that is cut is estimated (T03)');

($before, $after) = call('{"model":"c-std","max_tokens":9,"messages":[]}',
                         path => '/v1/messages',
                         standin => 'prompt=50; write5m=10; out=3');

is_deeply(part($after, qw(dialect cache_write_tokens input_tokens user)),
          { dialect => 'messages', cache_write_tokens => 10,
            input_tokens => 50, user => '' },
          'an Anthropic call has its own dialect and cache writes');

# refusals: before the body, at the body, by price, by limit

($before, $after) = call('{', who => '');

is_deeply(part($after, qw(code verdict end limit key_id key_sha256 model
                          cost_nusd usage_source body_sha256)),
          { code => 'key_invalid', verdict => 'deny', end => 'denied',
            limit => '', key_id => '', key_sha256 => $sha, model => '',
            cost_nusd => 0, usage_source => 'none', body_sha256 => '' },
          'a caller that nobody knows has no key id');
is($before->{code}, 'key_invalid', 'the answer\'s header can have it, too');

($before, $after) = call('{"model":');

is_deeply(part($after, qw(code verdict end model_requested key_id)),
          { code => 'request_invalid', verdict => 'deny', end => 'denied',
            model_requested => '', key_id => sha('me') },
          'a body that is cut has no model');
is($after->{body_sha256}, sha('{"model":'), 'but a hash');

($before, $after) = call('{"model":"m-none","messages":[]}');

is_deeply(part($after, qw(code model_requested priced_as limit)),
          { code => 'model_unpriced', model_requested => 'm-none',
            priced_as => '', limit => '' },
          'a model without a price is named');

($before, $after) = call($text, rate => 0);

is_deeply(part($after, qw(code limit verdict end cost_nusd usage_source
                          input_tokens model_served)),
          { code => 'rate_limited', limit => 'rate', verdict => 'deny',
            end => 'denied', cost_nusd => 0, usage_source => 'none',
            input_tokens => '', model_served => '' },
          'a limit that refuses is named');

# a free endpoint

my $answer = get('/v1/models?who=me&rate=1',
                 headers => { Authorization => 'Bearer sk-1' });

is($answer->{status}, 200, 'a free endpoint is served');
$after = logged();
is_deeply(part($after, qw(endpoint dialect key_id verdict model cost_nusd
                          hold_nusd usage_source end code provider)),
          { endpoint => '/v1/models', dialect => 'chat', key_id => sha('me'),
            verdict => 'none', model => '', cost_nusd => 0, hold_nusd => 0,
            usage_source => 'none', end => '', code => '', provider => 'p' },
          'with who called, and nothing charged');

# without a provider

($before, $after) = call($text, path => '/byok/v1/chat/completions');

is_deeply(part($after, qw(provider pass upstream host verdict key_id)),
          { provider => '', pass => '', upstream => '', host => '',
            verdict => 'allow', key_id => $sha },
          'bring your own key: no provider, and the key itself is who');

# where nothing is metered

$answer = get('/unmetered', headers => { Authorization => 'Bearer sk-1' },
              uncounted => 1);
$after = logged();

is($answer->{body}, "plain\n", 'a location that is not metered answers');
is($after->{key_sha256}, $sha, 'the hash of a presented key is there, as a '
                               . 'map needs it');
is_deeply($after, { (map { $_ => '' } grep { $_ ne 'usage' } @names),
                    key_sha256 => $sha }, 'and nothing else is');
is($answer->{headers}{'x-v-usage'}, undef, 'nor is there a usage line');
is($answer->{headers}{'x-known'}, 'yes', 'a map of it works everywhere');

get('/unmetered', uncounted => 1);
is_deeply(logged(), { map { $_ => '' } grep { $_ ne 'usage' } @names },
          'without a key all are empty');

# bad carriers

for my $case ([ 'two different keys', Authorization => 'Bearer sk-1',
                'X-Api-Key' => 'sk-2' ],
              [ 'a scheme that is not Bearer', Authorization => 'Basic c2s=' ])
{
    my ($title, %given) = @$case;

    get('/unmetered', headers => \%given, uncounted => 1);
    is(logged()->{key_sha256}, '', "$title has no hash");
}

for my $header ('X-Api-Key', 'Api-Key', 'X-Goog-Api-Key') {
    get('/unmetered', headers => { $header => 'sk-1' }, uncounted => 1);
    is(logged()->{key_sha256}, $sha, "$header carries a key");
}

get('/unmetered?a=b&key=sk-1', uncounted => 1);
is(logged()->{key_sha256}, $sha, 'the argument "key" carries a key');

# as the key of a limit

my %accounts = map { $_->{key} => $_->{spent} }
               grep { $_->{budget} eq 'model' } @{ledger_settled()->{accounts}};

is($accounts{'m-std:someone'}, 1020, 'a limit may be keyed on the model and '
                                     . 'the user of the request');
ok(exists $accounts{'c-std:'}, 'also where one of them is empty');

balanced('the books agree');
$nginx->stop();
done_testing();


sub sha {
    return sha256_hex(@_);
}


sub part {
    my ($all, @some) = @_;

    return { map { $_ => $all->{$_} } @some };
}


# Makes a call; the variables as they were in the header, and in the log.

sub call {
    my ($body, %opt) = @_;

    my $path = $opt{path} // '/v1/chat/completions';
    my $who = $opt{who} // 'me';
    my $rate = $opt{rate} // 100;
    my $answer = post_json("$path?who=$who&rate=$rate", $body,
                           headers => { Authorization => 'Bearer sk-1' },
                           standin => $opt{standin});

    my %before = map {
        my $name = 'x-v-' . tr/_/-/r;
        ($_ => $answer->{headers}{$name} // '')
    } @names;

    return \%before, logged();
}


# The last line of the log of variables, once there is one more.

my $lines;

sub logged {
    my @lines;

    wait_for(sub {
        @lines = usage_lines("$nginx->{dir}/vars.log");
        return @lines > ($lines // 0);
    });

    $lines = @lines;

    return $lines[-1];
}
