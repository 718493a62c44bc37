"""Plain English passages written for this project: something to read for measures that need no task."""

PASSAGES = (
    "The boat left the harbour before the sun was up. Two men stood at the rail and watched the lights of the town grow "
    "small behind them. Neither spoke. The engine beat slowly, the water was black and flat, and a cold wind came from "
    "the north with the smell of rain in it.",
    "To make good bread you need flour, water, salt and time. Mix the dough in the evening and leave it in a cool place. "
    "In the morning it will have risen to twice its size. Fold it gently, let it rest for an hour, and bake it until the "
    "crust is dark and sounds hollow when you knock on it.",
    "My grandmother kept her letters in a tin box under the stairs. She never threw one away. Some were seventy years old "
    "and the paper broke when you opened them. On Sundays she would take out one or two, read them to us, and tell us who "
    "the people were and what had become of them.",
    "A river does not run straight. Where the bank is soft it cuts into the earth on one side and drops sand on the other, "
    "so that every small bend becomes a larger one. After many years the loop closes, the water finds a shorter way, and a "
    "quiet lake in the shape of a half moon is left behind.",
    "The meeting began late and ended early. There were five points on the list: the roof, the garden, the new door, the "
    "price of coal and the summer party. Only the party was discussed. Everyone agreed that there should be music, and no "
    "one agreed about the rest, so it was put off until spring.",
    "He had walked for six hours when he saw the hut. Smoke rose from the chimney, and a dog began to bark. An old woman "
    "opened the door before he could knock. \"You are the third today,\" she said. \"Come in, sit down, and take off your "
    "boots. The soup is hot and the bridge will not be mended before Monday.\"",
    "Snow is not white because of what it is made of. Each crystal is as clear as glass. But the light that enters it is "
    "turned aside by a thousand small faces, again and again, until it comes out in all directions at once. The eye "
    "receives every colour together, and that is what we call white.",
    "The first clock in the village was on the church tower, and it had only one hand. Nobody needed more. People rose "
    "with the light, worked until noon, and went home when the bell rang. The second hand came with the railway, because a "
    "train that leaves at ten past nine does not wait for a farmer who thinks that it is nine.",
    "Dear Anna, thank you for the book and for the long letter. I have read both twice. The weather here is as bad as you "
    "remember it, but the house is warm and the children are well. Peter has lost a tooth. Mary can swim. I hope that you "
    "will come in August, when the plums are ripe, and stay as long as you like.",
    "There are two ways to find a word in a dictionary. You can begin on the first page and read until you come to it, or "
    "you can open the book in the middle, see which half it must be in, and do the same again with that half. The first "
    "way takes all day. The second takes sixteen steps, however thick the book is.",
    "Birds that travel by night find their way by the stars. Young ones learn it in their first summer: they watch the sky "
    "turn, and mark the one point that stands still. When clouds hide it, they use the sunset, the wind, the noise of the "
    "sea, and something else that we do not feel at all, the pull of the earth.",
    "The shop on the corner sold paper, string, lamps, glue, nails by weight, and a kind of sweet that tasted of smoke. "
    "The owner knew what everybody in the street needed before they asked. When he died the shop became a bank, then a "
    "cafe, then nothing. The lamp over the door is still there.",
)
"""Twelve passages of about fifty words, in common words, with dialogue, lists and a letter among them."""
