#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What a client claims to be changes neither who pays nor how many accounts
# there are; a limit on such a label comes on top of the key's (T32).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


use constant { CALLS => 500, MOST => 40 };

need_module();

my $standin = start_standin();

my $nginx = start_nginx(workers => 2, conf => llm_conf(
    key => '',
    limit => ['all key=all usd=1000 per=lifetime',
              'key requests=' . MOST . ' per=lifetime'],
    locations => <<"END"));
        location /labels/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            llm_budget_limit mine requests=@{[MOST]} per=lifetime;
            llm_budget_limit user key=\$llm_budget_user requests=2
                             per=lifetime;
            llm_budget_limit team key=\$http_x_team requests=3 per=lifetime;
            proxy_pass http://standin;
        }
END

my @forms = (
    ['chat', '/v1/chat/completions', { model => 'm-std', max_tokens => 4 }],
    ['messages', '/v1/messages', { model => 'c-std', max_tokens => 4 }],
);


# another user, another team and another of everything else in each call

for my $form (@forms) {
    my ($name, $path, $body) = @$form;
    my %seen = rotate($path, $body, "k-$name");

    is_deeply(\%seen, { 200 => MOST, 429 => CALLS - MOST },
              "T32: $name: whoever a key says it is, " . MOST . ' of '
              . CALLS . ' calls are served');
    is(scalar(accounts('key')), 1 + ($name eq 'messages'),
       '... and they are in one account');
}

is(scalar(accounts()), 3,
   'T32: a thousand names have made no account: two keys and all');


# a limit on what is claimed

my %seen = rotate('/labels/v1/chat/completions', $forms[0][2], 'k-label');

is_deeply(\%seen, { 200 => MOST, 429 => CALLS - MOST },
          'T32: with limits for each label the key\'s limit still binds');
is((accounts('mine'))[0]{spent}, MOST, '... and counts what was served');
is(scalar(accounts('user')), MOST,
   '... and a refused call makes no account of its user');
is(scalar(accounts('team')), MOST, '... nor of its team');

my @same = map {
    call('/labels/v1/chat/completions', $forms[0][2], 'k-other',
         'same', "t$_")->{status}
} 1 .. 4;

is_deeply(\@same, [200, 200, 429, 429],
          'T32: a label\'s own limit binds, too');

cmp_ok(scalar(accounts()), '<=', 3 + 3 + 2 * (MOST + 5),
       'T32: the number of accounts is bounded by the keys\' limits');

balanced('the books agree', wait => 10);
$nginx->stop();
done_testing();


# All calls of one key by four clients; how often which status.

sub rotate
{
    my ($path, $body, $key) = @_;

    my %seen;

    for my $part (parallel(4, sub {
        my ($me) = @_;
        my %mine;

        for my $i (grep { $_ % 4 == $me } 1 .. CALLS) {
            $mine{call($path, $body, $key, "user-$i", "team-$i")->{status}}++;
        }

        return \%mine;
    })) {
        $seen{$_} += $part->{$_} for keys %$part;
    }

    return %seen;
}


sub call
{
    my ($path, $body, $key, $user, $team) = @_;

    return post_json($path, {
        %$body, messages => [{ role => 'user', content => 'abcd' }],
        $path =~ /messages/ ? () : (user => $user),
        metadata => { user_id => $user, team_id => $team, key => $user },
    }, headers => [
        ['Authorization', "Bearer $key"], ['X-Team', $team],
        ['X-User', $user], ['X-Forwarded-For', '10.0.0.' . length($team)],
        ['X-LLM-Budget-Key', $user], ['User-Agent', $user],
        ['OpenAI-Organization', $team], ['OpenAI-Project', $team],
    ]);
}


# the ledger's accounts, those of one limit if it is named

sub accounts
{
    my ($limit) = @_;

    return grep { !defined $limit || $_->{budget} eq $limit }
           @{ledger_settled()->{accounts}};
}
