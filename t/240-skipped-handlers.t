#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What runs nginx's phases again, or leaves some out, neither escapes a
# metered location nor doubles a hold (T51).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(
    files => { 'page.html' => '[<!--#include virtual="/v1/models" -->]',
               'found' => 'found' },
    conf => llm_conf(
        http => <<'END',
    llm_budget_provider ours { pass http://standin; api_key provider-1; }
    log_format shadow '$uri|$http_authorization|$http_x_api_key|'
                      '$request_body';
END
        server => <<'END',
        llm_budget_limit all key=all usd=1000 per=lifetime;
        llm_budget_key $http_authorization;
END
        locations => join('',
            location('any', 'satisfy any; allow all;'),
            location('any-denied', 'satisfy any; deny all;'),
            location('all-denied', 'deny all;'),
            location('spent', 'satisfy any; allow all;'
                     . ' llm_budget_limit spent key=all usd=0 per=lifetime;'),
            location('asked', 'auth_request /asks;'),
            location('refused', 'auth_request /never;'),
            location('mirrored', 'llm_budget_pass ours; mirror /shadow;',
                     'proxy_pass $llm_budget_pass;'),
            location('done', 'llm_budget_pass ours; post_action @done;',
                     'proxy_pass $llm_budget_pass;'),
            location('done-metered', 'post_action @metered;'),
            location('tried', 'try_files /nothing @metered;', ''),
            location('tried-other', 'try_files /nothing'
                     . ' /v1/chat/completions;', ''),
            location('renamed', 'rewrite ^ /v1/embeddings break;'),
            location('named', 'error_page 418 = @metered; return 418;', ''),
            location('paged', 'error_page 429 /pages/429;'
                     . ' llm_budget_limit spent key=all usd=0 per=lifetime;'),
            location('ignoring', 'proxy_ignore_headers X-Accel-Redirect;'))
        . <<'END'));
        location @metered {
            llm_budget on;
            proxy_pass http://standin;
        }

        location @done {
            access_log %%DIR%%/logs/done.log shadow;
            access_log %%DIR%%/usage.log llm_usage if=$llm_budget_usage;
            proxy_pass http://127.0.0.1:%%PORT7%%;
        }

        location /asks { internal; return 204; }
        location /never { internal; proxy_pass http://127.0.0.1:%%PORT%%/v1/models; }

        location /shadow {
            internal;
            proxy_pass http://127.0.0.1:%%PORT7%%/seen;
        }

        location /rewritten/ {
            rewrite ^/rewritten(/.*)$ $1 last;
        }

        location /jump/ {
            rewrite ^ /v1/chat/completions last;
        }

        location = /page.html {
            ssi on;
            ssi_types *;
            root %%DIR%%;
        }

        location = /mirror-in {
            mirror /v1/chat/completions;
            return 200 "plain";
        }

        location = /mirror-proxy {
            mirror /v1/chat/completions;
            proxy_pass http://127.0.0.1:%%PORT%%/asks-not;
        }

        location = /asks-not { return 200 "plain"; }

        location = /auth-in {
            auth_request /v1/models;
            root %%DIR%%;
            try_files /found =404;
        }

        location = /post-in {
            post_action /v1/chat/completions;
            return 200 "plain";
        }

        location /file { internal; return 200 "a file"; }
        location /pages/ { internal; return 200 "page $uri"; }
    }

    server {
        listen 127.0.0.1:%%PORT7%%;
        access_log %%DIR%%/logs/shadow.log shadow;

        location / {
            proxy_pass http://127.0.0.1:%%PORT7%%/quiet;
            proxy_http_version 1.1;
        }

        location /quiet { access_log off; return 204; }
END

my $chat = '/v1/chat/completions';
my %headers = (Authorization => 'Bearer k1');
my $body = { model => 'm-std', max_tokens => 9,
             messages => [{ role => 'user', content => 'abcd' }] };
my $reached = 0;


# satisfy

served('/any', 'satisfy any: a request that allow lets in');
is(post_json("/any$chat", $body)->{status}, 401,
   'T51: satisfy any: a key is wanted all the same');
is(post_json("/any$chat", { %$body, model => 'none' },
             headers => \%headers)->{status}, 400,
   'T51: satisfy any: the body is judged');
is(post_json("/spent$chat", $body, headers => \%headers)->{status}, 429,
   'T51: satisfy any: an empty budget refuses');
is(post_json("/any-denied$chat", $body, headers => \%headers)->{status}, 403,
   'T51: satisfy any: a good key is no way past deny');
is(post_json("/all-denied$chat", $body, headers => \%headers)->{status}, 403,
   'T51: satisfy all: nor is it there');

{
    my $answer = post_json("/all-denied$chat", $body, headers => \%headers);

    is(code_of($answer), 'access_denied',
       'T61: nginx\'s own refusal is JSON');
}


# auth_request

served('/asked', 'auth_request lets it in');

{
    my $answer = post_json("/refused$chat", $body);

    $LLMBudget::MADE++;         # that of auth_request

    is($answer->{status}, 401,
       'T51: a refusing auth_request refuses before the module looks');
}


# subrequests into a metered location

for my $path ('/page.html', '/auth-in', '/mirror-proxy', '/mirror-in',
              '/post-in')
{
    my $answer = get($path, headers => \%headers, uncounted => 1);

    unlike($answer->{body}, qr/m-std/,
           "T51: $path gets nothing from a metered location");
}

is(get('/auth-in', headers => \%headers, uncounted => 1)->{status}, 403,
   'T51: auth_request into a metered location is refused');

{
    my $answer = post_json('/mirror-proxy', $body, headers => \%headers,
                           uncounted => 1);

    is($answer->{body}, 'plain',
       'T51: a mirror into a metered location does no harm');
}

is($standin->stats()->{requests}, $reached,
   'T51: no subrequest reached the provider');
like($nginx->log_text(), qr{subrequest "/v1/models" of "/page.html" into a},
     'T51: ... and the log says so');


# what a metered location sends elsewhere

{
    served('/mirrored', 'a mirrored call');

    my $log = wait_for(sub { read_file("$nginx->{dir}/logs/shadow.log") });

    like($log, qr/m-std/, 'a mirror gets the body');
    unlike($log, qr/provider-1/, 'T50: ... but not our credential');

    served('/done', 'a call with a post_action');

    $log = wait_for(sub {
        my $text = read_file("$nginx->{dir}/logs/shadow.log");
        return $text =~ m{/done} ? $text : undef;
    });

    ok($log, 'a post_action runs');
    unlike($log, qr/provider-1/, 'T50: ... without our credential');

    served('/done-metered', 'T51: a post_action into a metered location');
}


# other ways around

served('/tried', 'T51: try_files to a named location');
served('/named', 'T51: error_page to a named location');
served('/rewritten', 'T51: a rewrite into a metered location');
served('/jump', 'T51: a rewrite of the whole path');

{
    my $answer = post_json("/tried-other$chat", $body,
                           headers => \%headers);

    is($answer->{status}, 403,
       'T51: try_files to another path than the one that was judged');

    $answer = post_json("/renamed$chat", { model => 'm-embed',
        input => 'abcd' }, headers => \%headers);
    $reached++;

    is($answer->{status}, 200, 'T51: a rewrite by "break" is judged after');
    is($standin->last_request()->{target}, '/v1/embeddings',
       'T51: ... as what is sent');

    $answer = post_json("/paged$chat", $body, headers => \%headers);
    is($answer->{status}, 429, 'T51: error_page leaves a refusal alone');
    is(code_of($answer), 'budget_exceeded', '... and its JSON');
}

is($standin->stats()->{requests}, $reached,
   'T51: every call reached the provider once');

{
    my $lines = LLMBudget::balances();

    is($lines->{spent}, $lines->{billed},
       'T51: every call was charged once');
}


# X-Accel-Redirect

{
    my $answer = post_json("/ignoring$chat", $body, headers => \%headers,
                           standin => 'accel=/file');

    is($answer->{status}, 200, 'X-Accel-Redirect can be ignored');
    like($answer->{body}, qr/m-std/, '... so that the answer passes');

    balanced('T51: the books agree');

    my $before = spent(ledger());

    $answer = post_json($chat, $body, headers => \%headers,
                        standin => 'accel=/file');
    is($answer->{body}, 'a file', 'X-Accel-Redirect that is not ignored');
    wait_for(sub { usage_lines() >= $LLMBudget::MADE });

    my $line = (usage_lines())[-1];

    is($line->{usage_source}, 'hold',
       'T51: ... hides the usage, so the hold is charged');
    is(spent(ledger_settled()) - $before, $line->{hold_nusd}, '... in full');
    is(spent(ledger()) - $before, $line->{cost_nusd}, '... and logged');

    $before = spent(ledger());
    $answer = post_json($chat, $body, headers => \%headers,
                        standin => 'accel=/v1/models');
    is($answer->{status}, 403,
       'T51: X-Accel-Redirect into a metered location is refused');
    wait_for(sub { usage_lines() >= $LLMBudget::MADE });
    is(spent(ledger_settled()) - $before, (usage_lines())[-1]{cost_nusd},
       '... and the call is charged');
    is(ledger()->{stat}{pending}, 0, 'no hold is pending');
}

$nginx->stop();
done_testing();


sub location
{
    my ($name, $text, $pass) = @_;

    $pass //= 'proxy_pass http://standin;';

    return <<"END";
        location /$name/ {
            llm_budget on;
            $text
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            $pass
        }
END
}


# one test: served, by one call of the provider

sub served
{
    my ($place, $title) = @_;

    my $answer = post_json("$place$chat", $body, headers => \%headers);

    $reached++;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply([$answer->{status}, $standin->stats()->{requests}],
              [200, $reached], "$title is served, once");
}


sub code_of
{
    my ($answer) = @_;

    my $data = eval { JSON::PP->new->utf8->decode($answer->{body}) } // {};

    return $data->{error}{code} // '';
}
