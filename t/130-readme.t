#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# README.md says of each directive what the directive table says, and of
# endpoints and headers what the sources say.  check-docs has the names.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


my $sources = root() . '/ngx_http_llm_budget_module';
my $readme = read_file(root() . '/README.md') // '';
my $table = read_file("$sources/http/ngx_http_llm_budget_module.c");

my %examples;
my %levels = (MAIN => 'http', SRV => 'server', LOC => 'location');
my $directives = 0;

while ($table =~ /\{ ngx_string\("(\w+)"\),\s*(NGX_HTTP_\w+(?:\|\w+)*)/g) {
    my ($name, $flags) = ($1, $2);
    my $context = join(', ', map { $flags =~ /NGX_HTTP_${_}_CONF/
                                   ? $levels{$_} : () } qw(MAIN SRV LOC));
    my ($entry) = $readme =~ /^### $name\n\n((?:    .*\n)+(?:.*\n)*?)(?=^##)/m;

    $directives++;
    ok($entry, "$name has an entry") or next;

    my ($said) = $entry =~ /^    Context:  (.+)$/m;

    is($said, $context, "$name: its context");
    like($entry, qr/\A    Syntax:   $name[ ;]/, "$name: its syntax");

    for my $member (qw(Default Phase Since)) {
        like($entry, qr/^    $member: +\S/m, "$name: \L$member\E");
    }

    ($examples{$name}) = $entry =~ /^```nginx\n(.*?)^```/ms;
    like($examples{$name} // '', qr/^ *$name\b/m, "$name: an example");

    if ($flags =~ /CONF_FLAG/) {
        like($entry, qr/Syntax:   $name on \| off;/, "$name: on or off");
    }
}

cmp_ok($directives, '>=', 20, 'the directive table is read');

SKIP: {
    skip('no nginx, or no module', 1)
        if !defined find_nginx() || !defined find_module();

    for my $name (sort keys %examples) {
        my ($passed, $text) = check_conf(example($name),
                                         files => { secret => "sk-1\n" });

        ok($passed, "$name: its example passes nginx -t") or diag($text);
    }
}

# the endpoints

my $endpoints = read_file("$sources/core/llmb_endpoint.c");
my ($rows) = $readme =~ /^### Endpoints$(.*?)^### /ms;
my (@built, @said);

while ($endpoints =~ /llmb_string\("(GET|POST)"\),\ llmb_string\("([^"]+)"\),
                      \s+LLMB_ENDPOINT_(\w+),\ LLMB_DIALECT_(\w+)/gx)
{
    push @built, lc "$1 $2 $3 $4";
}

while ($rows =~ /^\| (GET|POST) \| (.+?) \| (\w+) \| `(\w+)` \|$/mg) {
    my ($method, $paths, $kind, $dialect) = ($1, $2, $3, $4);

    push @said, map { lc "$method $_ $kind $dialect" } $paths =~ /`([^`]+)`/g;
}

cmp_ok(scalar @built, '>=', 9, 'the table of endpoints is read');
is_deeply([ sort @said ], [ sort @built ], 'README.md has these endpoints');

# the response headers

my $reply = read_file("$sources/http/ngx_http_llm_budget_reply.c");
my ($headers) = $readme =~ /^## Response headers$(.*?)^## /ms;
my %sent = map { $_ => 1 } $reply =~ /"(x-[a-z-]+|Retry-After)"/g;

cmp_ok(scalar keys %sent, '>=', 7, 'the response headers are found');
is_deeply([ sort map { "$_" } $headers =~ /^\| `([\w-]+)`/mg ],
          [ sort keys %sent ], 'README.md has these headers');

# codes of refusals stand in a table each with a status; by whom they are
# sent, check-docs knows

my ($refusals) = $readme =~ /^## Refusals$(.*?)^## /ms;
my @codes = $refusals =~ /^\| `(\w+)` \| (?:\d+|other)/mg;
my %status;

for my $file (glob("$sources/http/*.c")) {
    my $code = read_file($file);

    while ($code =~ /(?:NGX_HTTP_(?!LLM_BUDGET)(\w+)|\b(425)),\s*"(\w+_\w+)"/g) {
        $status{$3} = $2 // $1;
    }
}

my %codes = map { $_ => 1 } @codes;

cmp_ok(scalar keys %status, '>=', 6, 'codes are found in the sources');
is_deeply([ grep { !$codes{$_} } sort keys %status ], [],
          'README.md has a row for each');

done_testing();


# The example of a directive where it belongs, with what it refers to; paths
# are those of this machine.

sub example {
    my ($name) = @_;

    my $text = $examples{$name};
    my %at = (http => '', server => '', location => '');

    $text =~ s{/etc/nginx/llm/prices\.json}{PRICES};
    $text =~ s{/run/secrets/\w+}{secret};
    $text =~ s{/var/lib/nginx/llm_budget}{journal};
    $text =~ s{https://api\.openai\.com}{http://127.0.0.1:9};
    $text =~ s/^(map .*\n)//m and $at{http} .= $1;

    # the store, whose journal has a place outside of the test by default

    $at{http} .= "llm_budget_redis redis://127.0.0.1:9;\n"
        if $name ne 'llm_budget_redis';
    $at{http} .= "llm_budget_journal journal;\n"
        if $name ne 'llm_budget_journal';

    my $level = $text =~ /^location/ ? 'server'
                : $table =~ /"$name"\),\s*NGX_HTTP_MAIN_CONF\|NGX_CONF/
                ? 'http' : 'location';

    $level = 'http' if $name eq 'llm_budget_provider';
    $at{$level} .= $text;
    $at{location} .= 'llm_budget on;' if $text !~ /^location|llm_budget on/m;
    $at{location} .= 'llm_budget_limit team usd=1;' if $text =~ /of=team/;

    my $prices = $name eq 'llm_budget_prices' ? ''
                 : "llm_budget_prices PRICES;";
    my $conf = <<"END";

http {
    $prices

    map \$remote_addr \$llm_user { default u; }
    map \$remote_addr \$llm_team { default t; }
    map \$remote_addr \$llm_env { default e; }

    llm_budget_provider openai { pass http://127.0.0.1:9; }

    $at{http}

    server {
        listen 127.0.0.1:%%PORT%%;

        $at{server}

        location /any/ {
            $at{location}
            proxy_pass http://127.0.0.1:9;
        }
    }
}
END

    my $file = root() . '/conf-examples/prices.json';

    return $conf =~ s/PRICES/$file/gr;
}
