"""How the tales are told: the sentences, one alternative a line (see `grammar.py` for the notation).

The first line of a tale is its title, and the title says which of the nine plots it is. Inside a rule no
alternative can be the beginning of another, so that a reader from left to right is never in doubt about
which one was taken; tests/text/test_tales.py proves it for every pair.
"""

from tinyllm.text import tale_phrases as phrases
from tinyllm.text import tale_phrases_more as more

# The nine plots; a weight before the star makes a plot more frequent.
PLOTS = """
3* {hero} and the Lost {thing.title}¶<lost_tale>
3* What {hero} the {hero.title} Wanted¶<wish_tale>
3* {hero} and {friend} Fall Out¶<quarrel_tale>
2* The Storm at {place.title}¶<storm_tale>
2* {hero} and the {boast.title}¶<boast_tale>
2* A Present for {friend} from {hero}¶<gift_tale>
2* {hero} Hears a Noise¶<noise_tale>
2* The Fib That {hero} Told¶<fib_tale>
2* How {hero} Made {hero.dish} for All¶<feast_tale>
"""

_TALES = {
    "start": PLOTS,

    "lost_tale": """
<open>, {hero} the {hero.kind} <came_home> and saw that {hero.his} {thing} was gone. <looked_in>¶\
"<alas>," <hero_said>. "{thing.lost}."¶\
{friend} the {friend.kind}<clad> <came_along> <with_load>. "<why_sad>" <friend_asked>, and {hero} <told_all>.¶\
"<will_help>," <friend_said>. "Where did you go <lately>?"¶\
"<to_place>," <hero_said>. So they {hero.gait} together <path>. <aside>¶\
<on_the_way> <at_last> {friend} <pointed>. There was the {thing}, {thing.found}! {hero} {thing.got}.¶\
"<thanks>," <hero_said>. <evening_meal> <moral_help>""",

    "wish_tale": """
<open>, {hero} sat <by> {place} and <sighed>. "<more_than> to {wish.to}," <hero_said>.¶\
{friend} the {friend.kind}<clad> <heard>. "<doubt>," <friend_said>. But {hero} <would_not>.¶\
<next_time> {hero.he} {wish.tried}. <aside> <alas_he> {wish.failed}.¶\
{friend} <came_running> <path> and <comforted>. "<dont_cry>," <friend_said>. "Why don't you {wish.instead}?"¶\
{hero} <thought> and <agreed>. {wish.then}.¶\
"<well_now>?" <friend_asked>.¶\
"<better_than>," <hero_said>, and <smiled>. <moral_wish>""",

    "quarrel_tale": """
{hero} the {hero.kind} and {friend} the {friend.kind} <were_friends>. But <one_time> they fell out \
over {quarrel.over}.¶\
"<mine>!" <hero_cried>.¶\
"<not_so>!" <friend_cried>.¶\
<words_flew> {quarrel.loss}. <parted>¶\
<days> {hero} <alone_one>, and {friend} <alone_two>. <aside>¶\
Then <elder_came> {elder} the {elder.kind} <in_clothes>, who <knew>. "<advice>," <elder_said>.¶\
So {hero} {hero.gait} <path> to {friend}'s {friend.home} and <knocked>. "<sorry>," <hero_said>.¶\
"<sorry_too>," <friend_said>. They <made_up>, and then they {quarrel.peace}. <moral_friends>""",

    "storm_tale": """
<open>, <storm_rose> over {place}. <storm_did> <storm_did_too>¶\
{hero} the {hero.kind} was safe in {hero.his} {hero.home}, <busy_with>. Then {hero.he} heard <a_cry>. \
It was {friend} the {friend.kind}, who {danger.trap}.¶\
"<hold_on>!" <hero_cried>. {hero.He} <took_quick> {danger.tool} and {hero.gait} <into_weather>, <path>. \
{hero.He} {danger.rescue}. <it_held>¶\
"<are_you_hurt>?" <hero_asked>.¶\
"<only_wet>," <friend_said>.¶\
They <went_in> and <warmed_up>. <storm_over> <moral_brave>""",

    "boast_tale": """
{hero} the {hero.kind} <was_proud>. <open>, {hero.he} stood <in_clothes> <by> {place} and <bragged>. \
"<nobody_can> {boast.claim}," <hero_said>. "<i_can>!"¶\
"<really>," <friend_first_said>, who was {friend.a} <and_had_time>. "<show_us>."¶\
<crowd_came> {hero} {boast.test}. <aside> <then_what> {hero.he} {boast.end}.¶\
<crowd_laughed> Only {friend} <helped_up>. "<next_time_say>," <friend_said>.¶\
"<i_see>," <hero_said>, and <blushed>. <moral_proud>""",

    "gift_tale": """
It was <nearly> the birthday of {friend} the {friend.kind}, and {hero} the {hero.kind} <wanted_to_give>. \
"<i_know>," <hero_said>. "I shall make {gift}."¶\
{hero.He} <fetched> {gift.from} and <worked>. On the table lay <odds>. <aside> But {gift.mishap}.¶\
"<alas>," <hero_said>. <in_came> {elder} the {elder.kind} <in_clothes>. "<spoilt>?" <elder_said>. "<look_again>."¶\
They <put_heads> until <late>. <on_the_day> {hero} <brought> {gift.better}.¶\
"<never_had>," <friend_said>, and <danced>. <birthday_meal> <moral_gift>""",

    "noise_tale": """
<night>, {hero} the {hero.kind} lay <in_bed> in {hero.his} {hero.home} and could not sleep. <night_aside>¶\
Then {hero.he} heard {noise.sound}. {hero} <pulled_up>. "<what_is_it>," <hero_said>. "It is {noise.guess}!"¶\
{hero.He} <crept> <path> to the {friend.home} of {friend} the {friend.kind} and <knocked>. "<wake_up>," \
<hero_said>. {friend} <yawned> and <took_light>.¶\
<together_they> They <peeped>, and there was {noise.truth}.¶\
<laughed_so> "<was_afraid>," <hero_said>.¶\
"<so_was_i>," <friend_said>. <warm_drink> <moral_fear>""",

    "fib_tale": """
{hero} the {hero.kind}<clad> was <bored>. <open>, {hero.he} {hero.gait} to {place} and <shouted> that {fib.lie}. \
At once {fib.stir}. {hero} <hid_laugh>.¶\
"<was_true>?" <friend_first_asked>, who was {friend.a} <and_no_fool>.¶\
"<only_joke>," <hero_said>.¶\
<aside> But <after_days> {fib.twist}. {hero} <ran_about>, but <nobody_listened>. "<heard_before>," they said.¶\
In the end {friend} <came_anyway>. "<this_time>?" <friend_asked>.¶\
"<by_my>," <hero_said>, and <hung_head>. {friend} <helped_out>, and {hero} <told_sorry>. <moral_truth>""",

    "feast_tale": """
<open>, {hero} the {hero.kind} <wished_to_cook> {hero.treat}. But <cupboard>. <hero_counted>¶\
{hero.He} {hero.gait} <path> to the {friend.home} of {friend} the {friend.kind}. "<have_you>?" <hero_asked>.¶\
"<some_left>," <friend_said>. "<may_i_come>?" So {friend} came too. <aside>¶\
<near> {place} they met {elder} the {elder.kind} <in_clothes>, <with_load>. "<what_cooking>?" <elder_said>.¶\
"{hero.Treat}," <hero_said>. "<come_along_too>."¶\
<cooked_it> <into_pot> <stirred_by> When it was <done>, there was <enough>. <ate> <sang_after> <moral_share>""",
}

RULES = {
    **_TALES, **phrases.SETTING, **phrases.SPEECH, **phrases.SHARED, **phrases.LOST, **phrases.WISH, **phrases.QUARREL,
    **more.STORM, **more.BOAST, **more.GIFT, **more.NOISE, **more.FIB, **more.FEAST,
}
