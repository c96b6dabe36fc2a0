#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A usage line is one line of valid JSON with the members that README.md
# documents and no other, whatever models, users and paths are called.


use strict;
use warnings;
use utf8;

use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

# in the order of a line; * : only with a request body that was read, ? : only
# where there is one

my @members = qw(id time key_id verdict code limit? endpoint dialect operation
                 provider? status end store? outage? user? model_requested*
                 model* model_served? service_tier? priced_as? max_output?
                 stream* input_tokens
                 cached_read_tokens cache_write_tokens cache_write_1h_tokens
                 output_tokens reasoning_tokens total_tokens web_searches
                 usage_source cost_nusd cost_usd hold_nusd overrun_nusd
                 ttft_ms? duration_ms price_version flags);

my %known = map { s/[*?]//r => 1 } @members;
my @always = grep { !/[*?]/ } @members;
my $text = JSON::PP->new->utf8;

# README.md has a row for each member: its table and this list are one

my ($table) = (read_file(root() . '/README.md') // '')
              =~ /^### Members$(.*?)^##/ms;

is_deeply([ sort map { "$_" } ($table // '') =~ /^\| `(\w+)`/mg ],
          [ sort keys %known ], 'README.md documents these members');

($table) = (read_file(root() . '/README.md') // '')
           =~ /^### Flags$(.*?)^##/ms;

my $source = read_file(root() . '/ngx_http_llm_budget_module/http/'
                       . 'ngx_http_llm_budget_log.c');

is_deeply([ sort map { "$_" } ($table // '') =~ /^\| `(\w+)`/mg ],
          [ sort map { "$_" } $source =~ /^    \{ LLMB_\w+, "(\w+)" \}/mg,
            $source =~ /^    \{ NGX_HTTP_LLM_BUDGET_FLAG_\w+, "(\w+)" \}/mg ],
          'and the flags that there are');

my $standin = start_standin();
my $nginx = start_nginx(workers => 2, conf => llm_conf(
    zone => 'llm 8m', key => '$arg_who',
    limit => [ 'all key=all usd=1000', 'rate key=$arg_who requests=$arg_rate' ],
    http => '    llm_budget_provider p { pass http://standin; }',
    location => '            llm_budget_pass p; '
                . 'llm_budget_unknown_model price_as=m-mini;',
    pass => '$llm_budget_pass'));

my %body = (model => 'm-std', messages => [ { role => 'user',
                                              content => 'hello' } ]);

# every kind of line

my $line = line('a plain call', \%body, standin => 'served=m-mini; tier=flex');

is($line->{key_id}, sha256_hex('me'), 'its key id is a hash');
like($line->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$/,
     'its time is ISO 8601');
is($line->{service_tier}, 'flex', 'its tier is the one that served');
is($line->{model_served}, 'm-mini', 'its model, too');
is($line->{operation}, 'chat', 'its operation is named');
is($line->{provider}, 'p', 'so is its provider');
is($line->{store}, LLMBudget::store_kind() eq 'zone' ? 'zone' : 'redis',
   'and its store');
is($line->{outage}, undef, 'which is there');
is($line->{status}, 200, 'its status is a number');
is($line->{cost_usd}, sprintf('%d.%09d', int($line->{cost_nusd} / 1e9),
                              $line->{cost_nusd} % 1e9),
   'its cost is there in whole nano-USD and in dollars');
is($line->{overrun_nusd}, 0, 'its cost is within its hold');
is_deeply($line->{flags}, [ 'tier_unpriced' ],
          'a tier without a price is flagged (T17)');

$line = line('a stream', { %body, stream => JSON::PP::true });
is($line->{stream}, JSON::PP::true, 'it is a stream');

$line = line('embeddings', { model => 'm-embed', input => 'hello' },
             path => '/v1/embeddings');
is($line->{operation}, 'embeddings', 'they are named');

$line = line('a call of Anthropic', { %body, model => 'c-std',
                                      max_tokens => 10,
                                      metadata => { user_id => 'u-1' } },
             path => '/v1/messages',
             standin => 'prompt=90; write5m=5; write1h=10; searches=2');
is($line->{user}, 'u-1', 'its user is metadata.user_id');
is($line->{cache_write_tokens}, 15, 'all cache writes');
is($line->{cache_write_1h_tokens}, 10, 'and those for an hour (T14)');
is($line->{web_searches}, 2, 'and searches are counted');
is_deeply($line->{flags}, [ 'search_unpriced' ], 'even without a price (T18)');

$line = line('a model without a price of its own',
             { %body, model => 'm-new', max_tokens => 5 },
             standin => 'served=m-mini');
is_deeply($line->{flags}, [ 'model_unpriced' ], 'is flagged (T06)');

$line = line('an answer that cost more than was held',
             { %body, max_tokens => 5 }, standin => 'prompt=90000');
is($line->{overrun_nusd}, $line->{cost_nusd} - $line->{hold_nusd},
   'says by how much (T54)');

$line = line('a provider\'s error', \%body, standin => 'status=500');
is("$line->{status} $line->{end} $line->{cost_nusd}", '500 upstream_error 0',
   'is not charged');

$line = line('a refusal by a limit', \%body, rate => 0);
is("$line->{status} $line->{code} $line->{limit} $line->{verdict}",
   '429 rate_limited rate deny', 'names it');

$line = line('a refusal before the body', \%body, who => '');
is("$line->{status} $line->{code}", '401 key_invalid', 'says why');
is($line->{store}, undef, 'and no store was asked');
ok(!exists $line->{model}, 'and has no model, as nobody has read the body');

$line = line('a path that is not served', \%body, path => '/v1/nothing');
is("$line->{status} $line->{code} $line->{endpoint}",
   '404 endpoint_not_allowed /v1/nothing', 'is named');

$line = line('a method that is not served', undef, method => 'DELETE');
is($line->{status}, 404, 'is refused');

$line = line('a free endpoint', undef, method => 'GET', path => '/v1/models');
is("$line->{status} $line->{verdict} $line->{cost_nusd}", '200 none 0',
   'costs nothing');

# hostile names; a model's has no control characters and up to 256 bytes

for my $case (
    [ 'quotes and backslashes', 'a"b\\c"}{"cost_nusd":-5,"x":"' ],
    [ 'line breaks', "a\nb\r\n{\"id\":1}\n" ],
    [ 'control characters', join('', map { chr } 0 .. 31, 127) ],
    [ 'UTF-8', "h\x{e9}llo \x{4e16}\x{754c} \x{1f4b8} \x{2028}\x{2029}" ],
    [ 'brackets and dollars', '${remote_addr} $host %s </script>' ],
) {
    my ($title, $name) = @$case;

    $line = line("a user with $title", { %body, user => $name });
    is($line->{user}, $name, 'is logged as it is');
}

$line = line('a long user', { %body, user => 'x' x 5000 });
is($line->{user}, 'x' x 64, 'is cut');

$line = line('a long user of many bytes', { %body, user => "\x{e9}" x 5000 });
is($line->{user}, "\x{e9}" x 32, 'is cut between letters');

$line = line('a model with quotes', { %body, model => 'm"x\\y{}' },
             standin => 'served=m-mini');
is($line->{model_requested}, 'm"x\\y{}', 'is logged as it is');

$line = line('a model in UTF-8', { %body, model => "mod\x{e8}le-\x{754c}" },
             standin => 'served=m-mini');
is($line->{model_requested}, "mod\x{e8}le-\x{754c}", 'is logged as it is');

$line = line('a model of 257 bytes', { %body, model => 'm' x 257 });
is("$line->{status} $line->{code}", '400 request_invalid', 'is refused');

$line = line('a model that was served with quotes', \%body,
             standin => 'served=m"\\-"x');
is($line->{model_served}, 'm"\\-"x', 'is logged as it is');

$line = line('a path with bytes of all kinds', \%body,
             path => '/v1/%22%5D%C3%A9%FF/nothing');
is($line->{code}, 'endpoint_not_allowed', 'is refused');

# what README.md says of where a line is not

get('/llm/nothing', uncounted => 1);
is(scalar(usage_lines()), $LLMBudget::MADE,
   'what is not metered has no usage line');

my %ids = map { $_->{id} => 1 } usage_lines();

is(scalar(keys %ids), scalar(usage_lines()), 'no id is there twice (T41)');

# the stand-in bills nothing for a model that it does not know, so that the
# bill is left out here

my $got = balances();

is("$got->{pending} $got->{held}", '0 0', 'no hold is pending');
is($got->{log}, $got->{spent}, 'the lines sum up to the ledger');

$nginx->stop();
outages();
done_testing();


# Nobody listens at the Redis of these: what was done about it.  Of a call that
# was refused there is no more to tell.

sub outages {
    my $base = LLMBudget::llm_conf(
        limit => 'all key=all usd=1000', key => '$arg_who',
        redis => 'redis://127.0.0.1:%%PORT9%%', outage => '%s',
        http => '    llm_budget_provider p { pass http://standin; }',
        location => '            llm_budget_pass p;',
        pass => '$llm_budget_pass');

    for my $outage (qw(deny allow local)) {
        $nginx = start_nginx(conf => $base
                             =~ s/llm_budget_outage \K%s/$outage/r);

        $line = line("a call in a \"$outage\" outage", \%body);

        is($line->{outage}, $outage, 'which it tells');
        is($line->{store}, 'redis', 'and whose');
        is("$line->{status} $line->{code} $line->{verdict}", $outage eq 'deny'
           ? '503 store_unavailable deny' : '200  allow', 'what came of it');
        is($line->{cost_nusd} > 0 ? 1 : 0, $outage eq 'deny' ? 0 : 1,
           'and what it cost');
        is_deeply($line->{flags}, [], 'no charge is lost');

        $nginx->stop(allow => qr/is down/);
    }
}


# Makes a call and looks at its line.

sub line {
    my ($title, $body, %opt) = @_;

    my $n = usage_lines();
    my $path = ($opt{path} // '/v1/chat/completions')
               . '?who=' . ($opt{who} // 'me') . '&rate=' . ($opt{rate} // 999);

    request($opt{method} // 'POST', $path, body => $body,
            standin => $opt{standin});

    wait_for(sub { my @lines = usage_lines(); @lines > $n });

    my $raw = (split(/\n/, read_file("$nginx->{dir}/usage.log")))[-1];
    my $line = eval { $text->decode($raw) };

    is(ref $line, 'HASH', "$title has a line of JSON") or diag($raw);
    is(scalar(usage_lines()), $n + 1, 'one line');

    is_deeply([ grep { !$known{$_} } sort keys %$line ], [],
              'no member is unknown');
    is_deeply([ grep { !exists $line->{$_} } @always ], [],
              'no member is missing');

    return $line;
}
